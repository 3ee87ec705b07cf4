"""What docs/results.md, docs/course.md and the README say of runs stands in docs/results/*.csv."""

import csv
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, median

import pytest

from oleander.experiment.intervals import interval, shown

DOCS = Path(__file__).parent.parent / "docs"
TEXT = " ".join((DOCS / "results.md").read_text(encoding="utf-8").split())
MEASURED = {"mta", "asr", "robust_accuracy", "baseline_mta", "baseline_asr", "true_positive_rate", "false_positive_rate", "seconds",
            "model_sha256", "folder", "seed"}  # fmt: skip

ON_DIGITS = "field", "field_probes", "untargeted", "populations", "repairs"
"""Those of docs/results-digits.md (test_results_digits.py)."""


def rows(name: str) -> list[dict[str, str]]:
    with (DOCS / "results" / f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def shares(score: str, found: list[dict[str, str]]) -> list[float]:
    return [100 * float(row[score]) for row in found]


def settings_of(name: str) -> list[list[dict[str, str]]]:
    """The rows of each setting, which differ in their seeds."""
    groups: dict[tuple, list[dict[str, str]]] = {}
    for row in rows(name):
        groups.setdefault(tuple(v for k, v in row.items() if k not in MEASURED), []).append(row)
    return list(groups.values())


def test_every_mean_and_interval_is_that_of_some_settings_runs():
    known = set()
    for file in (DOCS / "results").rglob("*.csv"):
        if file.stem in ("dba_by_round", "dba_server_lr", "field_cifar10", *ON_DIGITS):
            continue
        for group in settings_of(str(file.relative_to(DOCS / "results").with_suffix(""))):
            for score in ("mta", "asr"):
                if len(group) > 1:
                    known.add(shown(interval([float(row[score]) for row in group])))
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    ends = r"\[[\d.]+, [\d.]+\]|\([\d.]+–[\d.]+\)|\(all \d+ alike\)"
    said = set(re.findall(rf"\d+\.\d+ (?:{ends})", TEXT + readme))
    assert len(said) > 100 and said - known == set()
    assert "±" not in TEXT + readme


def test_what_is_said_of_single_seeds_is_so():
    by_figure = {group[0]["scenario"]: group for group in settings_of("course")}
    for figure in ("fig3_dba", "fig4_scaling"):
        *first, last = (f"{asr:.0f}" for asr in shares("asr", by_figure[figure]))
        assert f"{', '.join(first)} and {last} %" in TEXT
    clipped = interval([float(row["mta"]) for row in by_figure["fig5_clipping"]])
    low, high = 100 * clipped.span[0], 100 * clipped.span[1]
    start = float(by_figure["fig5_clipping"][0]["baseline_mta"]) * 100
    assert low < start < high  # so it must not be said to be above
    assert f"({start:.1f} %; the interval, {low:.1f} to {high:.1f}, covers it)" in TEXT


def test_the_swing_of_dba_is_described_as_it_is():
    asr = {(row["seed"], int(row["round"])): 100 * float(row["asr"]) for row in rows("dba_by_round")}
    assert max(asr[seed, n] for seed in "012" for n in range(6)) < 77
    high = {seed: [n for n in range(6, 16) if round(asr[seed, n]) >= 96] for seed in "012"}
    assert high == {"0": [6, 8, 10, 12, 14], "1": [9, 11, 13, 15], "2": [6, 8, 10, 12, 14]}
    assert "from round 6 to 14 with the seeds 0 and 2, and with seed 1 from round 9 on" in TEXT
    assert f"{asr['1', 7]:.1f} in round 7 and {asr['1', 8]:.1f} in round 8" in TEXT
    assert f"({asr['0', 15]:.1f} and {asr['2', 15]:.1f} after 99.9)" in TEXT


def test_half_a_step_of_the_server_does_to_the_swing_what_is_said():
    def courses(name, **wanted):
        """Seed → ASR by round, in %."""
        found = {}
        for row in rows(name):
            if all(row[key] == value for key, value in wanted.items()):
                found.setdefault(row["seed"], []).append(100 * float(row["asr"]))
        return found

    def move(course):
        return f"{median(abs(course[n + 1] - course[n]) for n in range(5, 15)):.0f}"

    half = courses("dba_server_lr", dataset="cifar10", server_lr="0.5")
    whole = courses("dba_by_round")
    assert [*half] == [*whole] == ["0", "1", "2"]
    first, second, third = map(move, half.values())
    assert f"by {first}, {second} and {third} points in the median" in TEXT
    first, second, third = map(move, whole.values())
    assert f"by {first}, {second} and {third}. It climbs" in TEXT
    assert "{:.1f}, {:.1f} and {:.1f} % after round 15".format(*(course[15] for course in half.values())) in TEXT
    kept = [
        float(row["mta"]) for row in rows("dba_server_lr") if (row["dataset"], row["server_lr"]) == ("cifar10", "0.5")
    ]
    assert min(kept) > 0.75
    slow, fast = (courses("dba_server_lr", dataset="toy", server_lr=eta) for eta in ("0.5", "1.0"))
    assert [*slow] == [*fast] == ["0", "1", "2"]
    assert "by {}, {} and {} points with η = 0.5".format(*map(move, slow.values())) in TEXT
    assert "with η = 1 by {}, {} and {}, and".format(*map(move, fast.values())) in TEXT
    assert max(max(course) for course in slow.values()) < 43
    assert {f"{course[15]:.0f}" for course in fast.values()} == {"100"}
    low, high = (
        [
            round(100 * float(row["mta"]))
            for row in rows("dba_server_lr")
            if (row["dataset"], row["server_lr"], row["round"]) == ("toy", eta, "15")
        ]
        for eta in ("1.0", "0.5")
    )
    assert "({}, {} and {} %, against {}, {} and {} % with η = 0.5)".format(*low, *high) in TEXT


def test_two_processors_are_as_far_apart_as_is_said():
    one, other = (
        {(*(v for k, v in row.items() if k not in MEASURED), row["seed"]): row for row in rows(name)}
        for name in ("course_differences", "course_differences_zen4")
    )
    apart = {
        score: {key: abs(a - b) for key in other for a, b in [shares(score, [one[key], other[key]])]}
        for score in ("mta", "asr")
    }
    anew = [key for key in other if "krum" in key and key[2] != "once"]
    assert (
        f"Krum with images drawn anew (MTA up to {max(apart['mta'][k] for k in anew):.0f} apart, ASR "
        + (f"{max(apart['asr'][k] for k in anew):.0f})")
        in TEXT
    )


def test_runs_without_an_attacker_in_the_last_round_ended_anywhere():
    listed = re.findall(r"\| (\d) \| (\d) \| (\d) \| (?:\d ){4}0 \| [\d.]+ \| ([\d.]+) \|", TEXT)
    runs = {
        (r["clients_per_round"], r["malicious"], r["seed"]): 100 * float(r["asr"]) for r in rows("selected_clients")
    }
    assert len(listed) == 5 and all(f"{runs[tuple(key)]:.1f}" == asr for *key, asr in listed)
    asrs = [float(asr) for *_, asr in listed]
    assert sum(asr > 96 for asr in asrs) == 3 and f"between {min(asrs)} and {max(asrs)} %, three of them" in TEXT
    others = [asr for key, asr in runs.items() if list(key) not in [list(key) for *key, _ in listed]]
    assert len(others) == 40 and round(min(others), 1) == 99.8


# ---- docs/course.md -----------------------------------------------------------------------------------------------------

COURSE = (DOCS / "course.md").read_text(encoding="utf-8")
SETTINGS = {
    "fig1_malicious_count": {str(n): ("fig1_malicious_count", {"malicious": str(n)}) for n in (1, 2, 3)},
    "selected_clients": {str(n): ("selected_clients", {"clients_per_round": str(n)}) for n in range(2, 7)},
    "fig2_krum": {"FedAvg": ("fig1_malicious_count", {"malicious": "1"}), "Krum (f = 1)": ("fig2_krum", {})},
    "fig3_dba": {
        "Blend, 3 malicious, 5 of 6 a round": ("fig1_malicious_count", {"malicious": "3"}),
        "DBA, 3 malicious, 6 of 6 a round": ("fig3_dba", {}),
    },
    "fig4_scaling": {"FedAvg": ("fig4_scaling", {})},
    "fig5_clipping": {
        "FedAvg": ("fig4_scaling", {}),
        "Clipping, then FedAvg (bound: the median)": ("fig5_clipping", {}),
    },
}
"""Scenario that a question's command names → row of its table → scenario under which its runs are recorded, and their settings."""


def questions() -> Iterator[tuple[str, str]]:
    """The scenario of each question's command, and the question's text."""
    for part in COURSE.split("\n## ")[1:]:
        yield re.findall(r"--scenario (\w+) --repeats", part)[0], part


def in_words(values: list[float]) -> str:
    return f"{fmean(values):.1f} ({min(values):.1f} to {max(values):.1f})"


@pytest.mark.parametrize(("scenario", "text"), [pytest.param(*question, id=question[0]) for question in questions()])
def test_every_number_in_a_table_of_the_courses_page_is_that_of_its_runs(scenario, text):
    found = re.findall(r"^\| ([^|]+) \| (\d[^|]+\)) \| (\d[^|]+\)) \|(?: ([\d.]+) / ([\d.]+) \|)?$", text, re.M)
    assert [row[0] for row in found] == list(SETTINGS[scenario])
    assert len(found) == len(re.findall(r"^\|", text, re.M)) - 2  # no row that is passed over
    for name, mta, asr, *published in found:
        recorded, wanted = SETTINGS[scenario][name]
        runs = rows("selected_clients" if recorded == "selected_clients" else "course")
        group = [r for r in runs if r["scenario"] == recorded and wanted.items() <= r.items()]
        assert (mta, asr) == (in_words(shares("mta", group)), in_words(shares("asr", group))), name
        if published[0]:
            said = (
                abs(float(a) - x) + abs(float(b) - y) for (x, y) in [stated_in(scenario, name)] for a, b in [published]
            )
            assert min(said) < 0.051, name


def stated_in(scenario: str, name: str) -> tuple[float, float]:
    """MTA and ASR in % that a scenario's file says were published for the point with which this row's name begins."""
    points = tomllib.loads((DOCS.parent / "scenarios" / f"{scenario}.toml").read_text("utf-8"))["point"]
    (found,) = [p["published"] for p in points if name.lower().startswith(p["label"].lower())]
    return 100 * found["mta"], 100 * found["asr"]


def test_the_courses_page_answers_each_question_once_by_a_scenario_that_ships():
    assert re.findall(r"^## (\w\w) \(([\d.]+)\)", COURSE, re.M) == [
        ("1a", "2.1.1"), ("1b", "2.1.2"), ("1c", "2.1.3"), ("2a", "2.2.1"), ("3a", "2.3.1"), ("3b", "2.3.2"),
    ]  # fmt: skip
    assert [scenario for scenario, _ in questions()] == list(SETTINGS)
    for name in (*SETTINGS, "course", "dba"):
        assert (DOCS.parent / "scenarios" / f"{name}.toml").is_file()
    for file in re.findall(r"\]\((results/[^)#]+|\w+\.md)", COURSE):
        assert (DOCS / file).is_file(), file


def test_what_the_courses_page_says_of_the_start_and_of_last_rounds_is_so():
    blend, dba = (next(r for r in rows("course") if r["attack"] == attack) for attack in ("blend", "dba"))
    mta, asr, square = (100 * float(x) for x in (blend["baseline_mta"], blend["baseline_asr"], dba["baseline_asr"]))
    assert f"MTA of {mta:.1f} and an ASR of {asr:.1f} for the picture, {square:.1f} for the square" in COURSE


def test_each_defence_against_four_attacks_is_as_its_table_and_words_say():
    found = {(row["strategy"], row["attack"]): row for row in rows("field_cifar10")}
    strategies, attacks = list(dict.fromkeys(s for s, _ in found)), ["blend", "dba", "patch+scaling", "min_max"]
    assert len(found) == len(strategies) * len(attacks) and f"--sweep strategy={','.join(strategies)}" in TEXT

    def said(strategy: str, attack: str, score: str) -> str:
        return f"{100 * float(found[strategy, attack][score]):.1f}"

    for strategy in strategies:
        cells = [said(strategy, a, score) for a in attacks for score in ("mta", "asr") if found[strategy, a][score]]
        assert f"| `{strategy}` | {' | '.join(cells)} |" in TEXT
    blend = [said(rule, "blend", "asr") for rule in ("median", "trimmed_mean", "rfa", "clip+fedavg")]
    assert (
        "{} % against the median, {} against the trimmed mean, {} against RFA and {} against clipping".format(*blend)
        in TEXT
    )
    removed = ("krum", "multi_krum", "bulyan", "dnc", "foolsgold", "flame", "rflbat", "multi_metrics", "alignins")
    assert all(float(found[rule, "blend"]["asr"]) <= 0.01 for rule in removed)
    assert all(float(found[rule, "blend"]["true_positive_rate"]) == 1 for rule in removed)
    assert f"({said('signguard', 'blend', 'asr')} and {said('lasa', 'blend', 'asr')} %)" in TEXT
    assert (
        f"leaves out {100 * float(found['signguard', 'blend']['true_positive_rate']):.0f} % of the attackers' updates"
        in TEXT
    )
    assert f"({said('fedavg+rlr', 'blend', 'asr')} %, MTA {said('fedavg+rlr', 'blend', 'mta')})" in TEXT
    assert f"(MTA {said('fedavg+noise', 'blend', 'mta')} % under Blend)" in TEXT
    assert (
        float(found["freqfed", "blend"]["true_positive_rate"]) == 0.8
        and f"({said('freqfed', 'blend', 'asr')} %)" in TEXT
    )
    weak = said("fedavg", "dba", "asr"), said("fedavg", "patch+scaling", "asr")
    assert "bring them to {} and {} % against FedAvg".format(*weak) in TEXT
    assert f"falls to {said('krum', 'min_max', 'mta')} %; FLAME's to {said('flame', 'min_max', 'mta')}." in TEXT
    others = [
        float(found[s, "min_max"]["mta"]) for s in ("fedavg", "median", "trimmed_mean", "rfa", "multi_krum", "bulyan")
    ]
    assert min(others) > 0.77
    trusted = [100 * float(found["fltrust", attack]["mta"]) for attack in attacks]
    assert f"(MTA {min(trusted):.0f} to {max(trusted):.0f} %)" in TEXT
    scores = [[(found[rule, a]["mta"], found[rule, a]["asr"]) for a in attacks] for rule in ("fedavg", "centred_clip")]
    assert scores[0] == scores[1] and "is FedAvg**, in every score" in TEXT
