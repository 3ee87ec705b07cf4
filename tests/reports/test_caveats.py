"""What is said of a run whose steps are files of the user's, in folders of any name."""

from dataclasses import replace

import pytest

from oleander.reports.caveats import counted, warnings_of
from oleander.settings import outside
from oleander.settings.config import Experiment
from tests.experiment.test_records import ROUND, START, SUMMARY
from tests.settings.test_outside import ATTACK, RULE


@pytest.fixture(autouse=True)
def forgotten():
    yield
    outside.forget()


def said(experiment, strategy="fedavg", round_=ROUND):
    return " ".join(warnings_of(experiment, replace(SUMMARY, strategy=strategy), [round_], {}))


def test_a_folder_named_as_an_attack_is_no_step_of_it(tmp_path):
    folder = tmp_path / "a+scaling+b"
    folder.mkdir()
    (folder / "my_attack.py").write_text(
        ATTACK.replace("attack: Attack, *,", "attack: Attack, *, gamma: float | None,")
    )
    outside.use("attacks", str(folder / "my_attack.py"))
    settings = {"malicious": 1, "own": (("gamma", 2.0),)}
    assert "the scaled updates do not add up" in said(Experiment(attack="scaling", **settings))
    mine = Experiment(attack=str(folder / "my_attack.py"), **settings)
    assert mine.gamma == 2.0 and "scaled updates" not in said(mine)


def test_a_rule_of_ones_own_that_assumed_too_little_is_named_however_its_folder_is(tmp_path):
    folder = tmp_path / "c++.d"
    folder.mkdir()
    file = folder / "my_rule.py"
    file.write_text(RULE)
    outside.use("strategies", str(file))
    attacked = replace(ROUND, malicious=[True] * 2 + [False] * (len(ROUND.client_ids) - 2))
    for strategy in ("my_rule", f"clip+{file}"):
        text = said(Experiment(strategy=str(file), malicious=2, assumed_malicious=1), strategy, attacked)
        assert "my_rule assumed f = 1, but up to 2 attackers" in text


def test_half_of_the_clients_being_malicious_is_said_of_every_defence_and_is_no_claim_of_what_came_of_it():
    """Rules with an f as well, whose f was too small; plain averaging defends nobody."""
    half = replace(ROUND, malicious=[True, True, False])
    of = {rule: warnings_of(Experiment(strategy=rule, malicious=3, assumed_malicious=1), replace(SUMMARY, strategy=rule),
                            [START, half], {}) for rule in ("fedavg", "krum", "flame")}  # fmt: skip
    found = {rule: " ".join(texts) for rule, texts in of.items()}
    assert "malicious in 1 of 1 rounds" not in found["fedavg"]
    for rule in ("krum", "flame"):
        assert f"{rule}: half of the clients or more were malicious in 1 of 1 rounds, where no rule" in found[rule]
        assert "no rule can tell" not in found[rule]
    assert "krum assumed f = 1, but up to 2 attackers" in found["krum"]
    studied = " ".join(counted([of["fedavg"]] * 3 + [of["krum"]] * 3 + [of["flame"]] * 3))
    assert studied.count("has a guarantee. (3 of 9 runs)") == 2


def test_attackers_who_see_only_their_own_updates_or_are_not_there_are_not_said_to_know_all(tmp_path):
    for attack in ("sign_flip", "alie", "gaussian"):
        assert "knew every" not in said(Experiment(attack=attack, malicious=3))
    for attack in ("ipm", "min_max", "min_sum"):
        own = Experiment(attack=attack, malicious=3).changed(**{f"{attack}_knows": "own"})
        assert "knew every" not in said(own) and "knew every" in said(own.changed(**{f"{attack}_knows": "all"}))
    assert "knew every" in said(Experiment(attack="mimic", malicious=1))
    assert "knew every" not in said(Experiment(attack="mimic", malicious=0))


def test_of_an_attack_without_an_asr_is_said_what_counts():
    experiment = Experiment(attack="sign_flip", malicious=1)
    for asr, baseline, told in ((None, None, True), (0.5, 0.1, False), (None, 0.1, False)):
        summary = replace(SUMMARY, asr=asr, baseline_asr=baseline)
        assert ("has no ASR" in " ".join(warnings_of(experiment, summary, [ROUND], {}))) == told
    nobody = replace(SUMMARY, asr=None, baseline_asr=None)
    assert "no ASR" not in " ".join(warnings_of(Experiment(), nobody, [ROUND], {}))


def test_an_attack_of_ones_own_that_sees_everybody_is_named(tmp_path):
    file = tmp_path / "my_attack.py"
    file.write_text(ATTACK + "\n\nSEES = replace(Attack(), omniscient=())\n")
    outside.use("attacks", str(file))
    assert "attackers of my_attack knew every" in said(Experiment(attack=str(file), malicious=1))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "m = 4 of n = 5 updates with f = 1; its guarantee holds for m <= n - 2f - 3, which is 0 here: for no m"),
        (
            {"clients": 11, "clients_per_round": 11},
            "m = 10 of n = 11 updates with f = 1; its guarantee holds for m <= n - 2f - 3 = 6:",
        ),
        ({"clients": 11, "clients_per_round": 11, "multi_krum_m": 7}, "m = 7 of n = 11"),
        ({"clients": 11, "clients_per_round": 11, "multi_krum_m": 6}, ""),
    ],
)
def test_where_multi_krums_guarantee_ends_is_said(settings, words):
    experiment = Experiment(strategy="clip+multi_krum").changed(**settings)
    text = said(experiment, "clip+multi_krum")
    assert words in text if words else "guarantee" not in text
    assert "guarantee" not in said(replace(experiment, strategy="krum"), "krum")
