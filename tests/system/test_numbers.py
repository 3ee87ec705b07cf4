"""Numbers as people write them."""

import pytest

from oleander.system.numbers import count, fixed, significant, trimmed


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (258.4, "260"), (99.7, "100"), (99.2, "99"), (100, "100"), (9.96, "10"), (4.93, "4.9"), (1, "1.0"), (0.0123, "0.012"),
        (12_345, "12,000"), (0, "0"), (-0.0, "0"), (-4.93, "−4.9"), (2.6e7, "2.6×10⁷"), (3.14e-6, "3.1×10⁻⁶"), (float("inf"), "inf"),
    ],
)  # fmt: skip
def test_two_significant_digits_and_no_exponent(value, said):
    assert significant(value) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [(1, "1"), (0.5, "0.5"), (-0.5, "−0.5"), (0.1, "0.1"), (5 / 3, "1.66667"), (100_000, "100,000"), (1e30, "10³⁰"), (0, "0")],
)  # fmt: skip
def test_a_trimmed_number_has_no_more_digits_than_it_needs(value, said):
    assert trimmed(value) == said


def test_a_minus_is_one_and_stands_before_no_zero():
    assert [fixed(value, 2) for value in (-0.004, -0.0, -0.1, 1.5)] == ["0.00", "0.00", "−0.10", "1.50"]


def test_a_noun_agrees_with_its_count():
    assert [count(number, "run") for number in (0, 1, 2, 1_000)] == ["0 runs", "1 run", "2 runs", "1,000 runs"]
    assert count(1, "reply", "replies") == "1 reply" and count(3, "reply", "replies") == "3 replies"
