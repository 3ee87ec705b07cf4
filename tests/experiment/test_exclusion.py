"""Whom a defence left out: those whom it gave no influence, not those whom it gave little."""

from dataclasses import replace

import pytest

from oleander.experiment.records import RoundRecord, detection_rates

START = RoundRecord(0, 0.75, 0.05, 1.0, [], [], [], [], [], [], [], 0, 0, {})


def round_with(influence, malicious):
    count = len(influence)
    return replace(
        START, round=1, client_ids=list(range(count)), malicious=malicious, influence=influence,
        norms_before=[1.0] * count, norms_after=[1.0] * count, train_losses=[0.1] * count,
    )  # fmt: skip


@pytest.mark.parametrize("little", [1e-3, 1e-4, 1e-9, 5e-324])
def test_little_influence_is_no_exclusion(little):
    assert detection_rates([round_with([little, 1 - little], [True, False])]) == (0.0, 0.0)
    assert detection_rates([round_with([0.0, 1.0], [True, False])]) == (1.0, 0.0)
    assert detection_rates([round_with([1 - little, little], [True, False])]) == (0.0, 0.0)


def test_rates_are_over_appearances_in_all_rounds():
    rounds = [
        START,
        round_with([0.0, 0.5, 0.5, 0.0], [True, False, False, False]),
        round_with([0.5, 0.0, 0.5], [True, True, False]),
    ]
    assert detection_rates(rounds) == (pytest.approx(2 / 3), pytest.approx(1 / 4))


def test_without_an_attacker_there_is_no_true_rate_and_without_benign_clients_no_false_one():
    assert detection_rates([round_with([0.0, 1.0], [False, False])]) == (None, 0.5)
    assert detection_rates([round_with([0.0, 1.0], [True, True])]) == (0.5, None)
