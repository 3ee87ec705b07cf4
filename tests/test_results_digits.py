"""What docs/results-digits.md says of runs stands in docs/results/*.csv."""

import re
from collections.abc import Iterable
from statistics import fmean

import pytest

from oleander.experiment.intervals import Interval, interval, paired, shown
from tests.test_results import DOCS, MEASURED, rows

TEXT = " ".join((DOCS / "results-digits.md").read_text(encoding="utf-8").split())
FIELD = rows("field")
ATTACKS, STRATEGIES = (list(dict.fromkeys(row[key] for row in FIELD)) for key in ("attack", "strategy"))
BACKDOORS = [attack for attack in ATTACKS if any(row["asr"] for row in FIELD if row["attack"] == attack)]
OVER = "true_positive_rate", "false_positive_rate"


def mean(score: str, found: Iterable[dict[str, str]]) -> float:
    return 100 * fmean(float(row[score]) for row in found)


def cell(score: str, strategy: str, attack: str) -> int:
    """As the heat map writes it."""
    return round(mean(score, (row for row in FIELD if (row["strategy"], row["attack"]) == (strategy, attack))))


def over(strategy: str, score: str, attacks: Iterable[str]) -> float:
    chosen = set(attacks)
    return mean(score, (row for row in FIELD if row["strategy"] == strategy and row["attack"] in chosen))


def test_every_strategy_met_every_attack_in_three_seeds():
    assert len(FIELD) == len(ATTACKS) * len(STRATEGIES) * 3
    assert f"{len(ATTACKS)} attacks × {len(STRATEGIES)} strategies × 3 seeds" in TEXT
    assert f"against all {len(BACKDOORS)} backdoors" in TEXT


def test_every_mean_with_an_interval_is_that_of_some_settings_runs():
    known = set()
    for name in ("untargeted", "populations", "repairs"):
        groups: dict[tuple[str, ...], list[dict[str, str]]] = {}
        scores = [score for score in ("mta", "asr", "repaired_mta", "repaired_asr") if score in rows(name)[0]]
        for row in rows(name):
            groups.setdefault(
                tuple(v for k, v in row.items() if k not in {*MEASURED, *scores, "repaired_robust_accuracy"}), []
            ).append(row)
        for group in groups.values():
            assert len(group) in (3, 5)
            known |= {shown(interval([float(r[score]) for r in group])) for score in scores if group[0][score]}
    ends = r"\[[\d.]+, [\d.]+\]|\([\d.]+–[\d.]+\)|\(all \d+ alike\)"
    tables = " ".join(
        line for line in (DOCS / "results-digits.md").read_text(encoding="utf-8").splitlines() if "|" in line
    )
    said = set(re.findall(rf"\d+\.\d+ (?:{ends})", tables))
    assert len(said) > 40 and said - known == set()


def test_the_rules_said_to_remove_all_backdoors_do_and_keep_the_accuracy():
    good = ["krum", "multi_krum", "bulyan", "median", "trimmed_mean", "rfa", "fltrust", "flame", "signguard", "dnc", "lasa",
            "deepsight", "clip+fedavg"]  # fmt: skip
    for rule in good:
        assert max(cell("asr", rule, attack) for attack in BACKDOORS) < 9
        assert min(cell("mta", rule, attack) for attack in ATTACKS) >= 97
        assert max(cell("asr", rule, attack) for attack in BACKDOORS if attack != "a3fl") <= 1
    assert {cell("asr", rule, "a3fl") for rule in good} <= set(range(1, 9))


def test_what_no_defence_lets_in():
    asr = {attack: cell("asr", "fedavg", attack) for attack in BACKDOORS}
    nothing = {"sig", "wanet", "patch+scaling+fit_norm"}
    assert all(asr[attack] <= 1 for attack in nothing) and asr["patch+constrain"] == 65
    there = sum(found > 1 for found in asr.values())
    assert f"{there} of the {len(asr)} backdoors are there" in TEXT
    others = {attack: found for attack, found in asr.items() if attack not in nothing | {"patch+constrain"}}
    assert (min(others.values()), max(others.values())) == (84, 100)
    hidden = ("min_max", "min_sum", "ipm", "mimic", "sign_flip")
    assert min(cell("mta", "fedavg", attack) for attack in hidden) == 97
    assert (cell("mta", "fedavg", "gaussian"), cell("mta", "fedavg", "poisonedfl")) == (80, 94)


@pytest.mark.parametrize(
    ("words", "strategy", "attacks"),
    [
        ("(DBA {}, PGD {})", "nnm+fedavg", ["dba", "patch+pgd"]),
        ("(Blend {}, scaling {})", "nnm+fedavg", ["blend", "patch+scaling"]),
        ("but {} against DBA, {} against IBA and {} against A3FL", "foolsgold", ["dba", "iba", "a3fl"]),
        ("Blend {} and A3FL {} %, against", "clip+fedavg+noise", ["blend", "a3fl"]),
        ("against {} and {} without noise", "clip+fedavg", ["blend", "a3fl"]),
        ("lets Blend ({} %) and scaling ({}) through", "fedavg+rlr", ["blend", "patch+scaling"]),
        ("(patch {}, scaling {})", "fldetector", ["patch", "patch+scaling"]),
        ("and one is enough: {} %", "freqfed", ["blend"]),
    ],
)
def test_a_defence_is_said_to_leave_the_asr_that_it_leaves(words, strategy, attacks):
    assert words.format(*(cell("asr", strategy, attack) for attack in attacks)) in TEXT


def test_rules_that_do_as_plain_averaging_does():
    opened = [attack for attack in BACKDOORS if cell("asr", "fedavg", attack) > 2]
    for rule, apart, (low, high) in (("bucketing+fedavg", 12, (60, 100)), ("fedavg+noise", 20, (51, 100))):
        found = [cell("asr", rule, attack) for attack in opened]
        assert (min(found), max(found)) == (low, high) and f"{low} to {high}" in TEXT
        assert all(abs(f - cell("asr", "fedavg", attack)) <= apart for f, attack in zip(found, opened, strict=True))
    for rule, apart in (("centred_clip", 1), ("fedavg+crfl", 12)):
        assert all(abs(cell("asr", rule, attack) - cell("asr", "fedavg", attack)) <= apart for attack in opened)


def test_what_is_said_of_single_rules():
    shares = ["fcba", "patch", "blend", *(attack for attack in BACKDOORS if attack.startswith("patch+"))]
    assert max(cell("asr", "foolsgold", attack) for attack in shares) <= 2
    kept = [round(over("alignins", score, BACKDOORS)) for score in reversed(OVER)]
    assert "({} and {} % against the 15 backdoors)".format(*kept) in TEXT
    assert cell(OVER[0], "fldetector", "patch") == 80 and "removes 80 % of the patch's clients" in TEXT
    assert f"({round(over('fldetector', OVER[0], BACKDOORS))} % of all malicious ones of the 15 backdoors)" in TEXT
    assert f"({cell(OVER[0], 'fldetector', 'blend')} % removed, ASR {cell('asr', 'fldetector', 'blend')})" in TEXT
    assert f"({cell(OVER[0], 'freqfed', 'blend')} % removed)" in TEXT
    spoiled = cell("mta", "foolsgold", "gaussian"), cell("mta", "multi_metrics", "gaussian")
    assert "FoolsGold (MTA {}) and Multi-Metrics ({})".format(*spoiled) in TEXT
    assert f"{cell(OVER[1], 'foolsgold', 'gaussian')} % of the honest clients" in TEXT
    spoiled = cell("mta", "fedavg+crfl", "poisonedfl"), cell("mta", "fedavg+noise", "poisonedfl")
    assert "CRFL (MTA {}) and noise ({})".format(*spoiled) in TEXT


def test_what_was_tried_to_explain_the_field():
    def tried(score: str, setting: str, value: float) -> list[int]:
        found = [row for row in rows("field_probes") if (row["setting"], float(row["value"])) == (setting, value)]
        return sorted(round(100 * float(row[score])) for row in found)

    low, _, high = tried("asr", "centred_clip_tau", 1)
    assert f"still {low} to {high} %" in TEXT and tried("asr", "centred_clip_tau", 0.1) == [0, 0, 0]
    assert "falls to {}, {} and {} % in three seeds".format(*tried("asr", "rlr_threshold", 6)) in TEXT
    assert "but MTA to {}, {} and {} %".format(*tried("mta", "rlr_threshold", 6)) in TEXT
    least = [tried("voted_asr", "crfl_sigma", sigma)[0] for sigma in (0.01, 0.05, 0.1)]
    assert "is still {}, {} and {} % at least".format(*least) in TEXT
    assert f"falls to {tried('voted_mta', 'crfl_sigma', 0.1)[0]} %" in TEXT
    assert tried("asr", "malicious", 0) == [0, 0, 0] and "Without attackers the noisy model's ASR is 0" in TEXT


def test_the_order_of_the_untargeted_attacks():
    def lost(strategy: str, stronger: str, weaker: str) -> Interval:
        """By how much lower the MTA is under the first attack than under the second, seed by seed."""
        under, less = (
            {
                int(row["seed"]): float(row["mta"])
                for row in rows("untargeted")
                if (row["attack"], row["strategy"]) == (attack, strategy)
            }
            for attack in (weaker, stronger)
        )
        found = paired(under, less)
        assert found is not None and len(found.seeds) == 5
        return found.difference

    def said(found: Interval, points: str = "") -> str:
        assert found.low is not None and found.high is not None and found.low > 0
        return f"by {100 * found.mean:.1f}{points} [{100 * found.low:.1f}, {100 * found.high:.1f}]"

    assert f"against the median {said(lost('median', 'min_max', 'alie'), ' points')}" in TEXT
    assert f"the trimmed mean {said(lost('trimmed_mean', 'min_max', 'alie'))}" in TEXT
    assert f"Multi-Krum {said(lost('multi_krum', 'min_max', 'alie'))}" in TEXT
    assert f"Min-Max is stronger {said(lost('multi_krum', 'min_max', 'min_sum'))}" in TEXT
    for strategy in ("fedavg", "median", "trimmed_mean", "krum", "multi_krum"):
        assert lost(strategy, "alie", "none").low <= 0
    for strategy in ("median", "trimmed_mean"):
        apart = lost(strategy, "min_max", "min_sum")
        assert apart.low < 0 < apart.high and abs(apart.mean) < 0.01


def test_populations_keep_their_accuracy_and_take_the_seconds_that_are_said():
    found = rows("populations")
    assert {round(mean("mta", (row for row in found if (row["scenario"], row["strategy"]) == key)))
            for key in {(row["scenario"], row["strategy"]) for row in found}} <= {97, 98}  # fmt: skip
    seconds = [float(row["seconds"]) for row in found]
    assert f"{min(seconds):.0f} to {max(seconds):.0f} s" in TEXT
