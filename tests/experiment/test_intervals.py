"""Means over seeds, their intervals, and differences between settings that share their seeds."""

import itertools
import statistics
from functools import partial

import numpy as np
import pytest
from scipy import stats

from benchmarks.coverage import bootstrap, coverage, ours
from oleander.experiment.intervals import Interval, holm, interval, p_shown, paired, shown, signs_of, student


def test_students_interval_is_of_unbounded_numbers():
    found = student([0.1, 0.2, 0.4])
    assert found.mean == pytest.approx(0.7 / 3) and found.n == 3
    low, high = stats.t.interval(0.95, 2, loc=found.mean, scale=statistics.stdev(found.values) / 3**0.5)
    assert found.span == (pytest.approx(low), pytest.approx(high))
    assert student([0.3]).low is None and student([2.5, 2.5]).low is None


@pytest.mark.parametrize(
    "shares",
    [
        [0.0, 1.0, 1.0, 1.0, 1.0],
        [0.0, 0.0, 0.0, 0.0, 1.0],
        [0.987, 0.926, 0.077, 0.0, 1.0],
        [1.0, 1.0, 1.0, 1.0, 0.9999],
        [0.5, 0.6, 0.7, 0.1, 0.3, 0.2, 0.99],
    ],
)
def test_an_interval_of_shares_lies_within_0_and_1_and_around_the_mean(shares):
    found = interval(shares)
    assert 0 < found.low < found.mean < found.high < 1


def test_the_interval_is_students_on_the_logit_of_the_mean():
    shares = [0.70, 0.74, 0.78, 0.75, 0.72]
    mean, error = np.mean(shares), stats.sem(shares)
    half = stats.t.ppf(0.975, 4) * error / (mean * (1 - mean))
    ends = [1 / (1 + np.exp(-(np.log(mean / (1 - mean)) + s * half))) for s in (-1, 1)]
    assert interval(shares).span == (pytest.approx(ends[0]), pytest.approx(ends[1]))


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_below_five_seeds_there_is_no_interval_but_the_range(n):
    values = [0.1, 0.9, 0.5, 0.7][:n]
    found = interval(values)
    assert (found.low, found.high) == (None, None) and found.values == tuple(values)
    assert found.span == (min(values), max(values))
    assert "[" not in shown(found) and "±" not in shown(found)


def test_equal_values_show_no_interval_and_say_so():
    for n in (2, 5, 30):
        for value in (1.0, 0.0, 0.1):
            found = interval([value] * n)
            assert found.low is None and found.mean == value and shown(found).endswith(f"(all {n} alike)")
    assert "up to 45 % of all seeds" in " ".join(signs_of([interval([1.0] * 5)]))


def test_an_intervals_ends_never_read_as_one_number():
    assert shown(interval([0.9998, 0.9999, 0.9997, 0.9998, 0.99985])) == "99.98 [99.97, 99.99]"
    assert shown(Interval((0.5, 0.5000001))) == "50.0000 (50.0000–50.0000)"  # no more than four decimals


def test_what_is_shown_of_shares():
    assert shown(None) == "–" and shown(interval([0.753])) == "75.3"
    assert shown(interval([0.701, 0.803])) == "75.2 (70.1–80.3)"
    assert shown(interval([0.70, 0.74, 0.78, 0.75, 0.72])) == "73.8 [69.9, 77.4]"
    assert shown(Interval((-0.1, 0.02), -0.5, 0.3), signed=True) == "−4.0 [−50.0, +30.0]"
    assert [p_shown(p) for p in (None, 0.00049, 0.05)] == ["–", "< 0.001", "0.050"]


def test_signs_are_told_of_those_forms_that_occur():
    told = signs_of([None, interval([0.5]), interval([0.5, 0.6])])
    assert len(told) == 1 and "range" in told[0]
    assert "95 % interval" in signs_of([interval([0.1, 0.2, 0.3, 0.4, 0.5])])[0]


@pytest.mark.parametrize("share", [-0.1, 1.1, 77.0])
def test_percent_are_no_shares(share):
    with pytest.raises(ValueError, match="shares from 0 to 1"):
        interval([0.5, share])


def test_settings_are_paired_by_their_seeds():
    rng = np.random.default_rng(0)
    one, other = rng.random(7), rng.random(7)
    found = paired(dict(enumerate(one)), dict(reversed(list(enumerate(other)))))
    reference = stats.ttest_rel(one, other)
    ends = reference.confidence_interval()
    assert found.p == pytest.approx(reference.pvalue) and found.difference.mean == pytest.approx(np.mean(one - other))
    assert found.difference.span == (pytest.approx(ends.low), pytest.approx(ends.high))


def test_pairs_are_the_seeds_that_both_have():
    found = paired({0: 0.1, 1: 0.2, 5: 0.3}, {5: 0.1, 1: 0.1, 7: 0.9})
    assert found.seeds == (1, 5) and found.difference.values == pytest.approx((0.1, 0.2))
    assert found.p is None and found.difference.low is None
    assert paired({0: 0.1}, {1: 0.1}) is None


def test_pairs_find_what_a_pooled_test_does_not():
    """Seeds differ by far more than settings do."""
    base = {seed: 0.1 + 0.15 * seed for seed in range(5)}
    better = {seed: share + 0.02 + 0.001 * seed for seed, share in base.items()}
    assert paired(better, base).p < 0.001
    assert stats.ttest_ind(list(better.values()), list(base.values())).pvalue > 0.8


def test_the_interval_leaves_out_0_where_p_is_below_5_percent():
    rng = np.random.default_rng(1)
    for n, scale in itertools.product((5, 8), (0.02, 0.3, 1.0)):
        for _ in range(50):
            ours = dict(enumerate(rng.random(n) * scale))
            found = paired(ours, dict(enumerate(rng.random(n) * 0.5 * scale)))
            low, high = found.difference.span
            assert -1 <= low <= high <= 1 and (found.p < 0.05) == (not low <= 0 <= high)


def test_equal_differences_are_no_certainty():
    seeds = range(5)
    same = paired({s: 0.3 * s / 4 for s in seeds}, {s: 0.3 * s / 4 for s in seeds})
    assert same.p == 1 and same.difference.low is None and shown(same.difference) == "0.0 (all 5 alike)"
    apart = paired({s: 0.1 * s + 0.1 for s in seeds}, {s: 0.1 * s for s in seeds})  # equal but for rounding
    assert apart.p is None and apart.difference.low is None


def test_holms_correction_is_the_step_down_one():
    assert holm([0.01, 0.04, 0.03, None, 0.005]) == pytest.approx([0.03, 0.06, 0.06, None, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0] and holm([]) == []
    assert holm([0.01, None], comparisons=2) == [0.02, None]


def test_the_interval_covers_where_the_values_are_as_they_should_be():
    """And is the better one where they are not: what decided between the two (benchmarks/coverage.py prints more)."""
    kinds = {"ours": ours, "BCa": partial(bootstrap, "BCa")}
    for name, least in (("MTA, steady: 77 %, deviation 1.2", 92), ("ASR, low: 2.4 %, deviation 3.3", 85)):
        logit, bca = (float(cell.split()[0]) for cell in coverage(name, 5, 300, kinds)[0])
        assert logit >= least and logit > bca + 5
