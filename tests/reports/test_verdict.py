"""The sentence that a run or a study ends with follows its records, and what weakens it is beside it."""

import io
from dataclasses import replace

import pytest
from rich.console import Console
from rich.table import Table

from oleander.experiment.records import REPORT
from oleander.experiment.study import Runs, StudyResult
from oleander.reports.caveats import warnings_of
from oleander.reports.tables import print_end, print_table
from oleander.reports.verdict import ONE_SEED, caveats_of_run, caveats_of_study, study_verdict, verdict
from oleander.settings.config import Experiment
from oleander.settings.plan import Chart, Published
from tests.experiment.test_records import ROUND, SUMMARY, folder_of

RUN = replace(SUMMARY, strategy="fedavg", mta=0.774, asr=0.999, baseline_mta=0.771, baseline_asr=0.004)


MTA = "main task accuracy (MTA) is"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, f"The backdoor works: the ASR is 99.9 % (start 0.4 %), and {MTA} 77.4 %, 0.3 points above the start."),
        ({"strategy": "krum", "asr": 0.02, "mta": 0.748},
         f"The backdoor failed against krum: the ASR is 2.0 % (start 0.4 %), and {MTA} 74.8 %, 2.3 points below the start."),
        ({"asr": 0.404}, "The backdoor works in part: the ASR is 40.4 %"),
        ({"asr": 0.6}, "The backdoor works on most images: the ASR is 60.0 %"),
        ({"asr": 0.95, "baseline_asr": 0.93},
         "The final model has a backdoor, and so had the start: the ASR is 95.0 % (start 93.0 %)"),
        ({"mta": 0.19}, f"The attack broke the model: {MTA} 19.0 %, 58.1 points below the start; "
                        "its ASR of 99.9 % is then no sign of a backdoor."),
        ({"malicious": [], "asr": None}, f"Nobody attacked: {MTA} 77.4 %, 0.3 points above the start."),
        ({"malicious": [], "asr": 0.01}, "and the ASR, without an attacker, is 1.0 %."),
        ({"asr": None}, f"The attack's success was not measured: {MTA}"),
        ({"mta": 0.771}, "(MTA) is 77.1 %, as at the start."),
    ],
)  # fmt: skip
def test_a_runs_sentence_is_what_its_scores_say(changes, sentence):
    assert sentence in verdict(replace(RUN, **changes))


def study(*cells, repeats=1):
    runs = tuple(
        Runs(name, "", Published(), (), tuple(replace(RUN, mta=m, asr=a) for m, a in found)) for name, found in cells
    )
    return StudyResult("mine", "", "", repeats, (Chart("fig", "a title", "rule", "", False, False, False, runs),))


def test_a_studys_sentence_names_the_settings_between_which_its_means_lie():
    two = study(("fedavg", [(0.8, 1.0), (0.7, 0.9)]), ("krum", [(0.7, 0.02), (0.6, 0.04)]), ("none yet", []))
    assert study_verdict(two) == [
        "fig: ASR is lowest with krum (3.0 %) and highest with fedavg (95.0 %); "
        "MTA is lowest with krum (65.0 %) and highest with fedavg (75.0 %)."
    ]
    assert study_verdict(study(("fedavg", []))) == []
    assert study_verdict(study(("a", [(0.5, None)]), ("b", [(0.5, None)]))) == ["fig: MTA is 50.0 % in every setting."]


def test_one_seed_is_a_caveat_of_a_run_and_of_a_study_of_one(tmp_path):
    folder = folder_of(tmp_path / "run", [ROUND])
    folder.write_settings(Experiment(rounds=1), {})
    found = caveats_of_run(folder.path, replace(RUN, start="a checkpoint", dataset="digits"))
    assert found[0] == ONE_SEED
    assert caveats_of_study(study())[:1] == [ONE_SEED] and caveats_of_study(study(repeats=5)) == []


def caveats(**changes):
    sound = replace(RUN, start="a checkpoint", dataset="digits")
    return warnings_of(Experiment(), replace(sound, **changes), [], {})


def test_few_test_images_and_a_start_that_gives_in_already_are_caveats():
    assert caveats() == caveats(test_images=10_000) == []
    assert caveats(test_images=360) == [
        "Scored on 360 test images: by their choice alone a score may be 5.2 points off (95 %)."
    ]
    assert caveats(baseline_asr=0.25) == [
        "The start's ASR is 25.0 % already: the attack has not done all of the final model's."
    ]
    assert caveats(baseline_asr=0.25, malicious=[]) == []


@pytest.mark.parametrize("width", [40, 80])
def test_the_last_lines_name_the_finding_what_weakens_it_and_the_report_whose_path_stays_whole(tmp_path, width):
    folder = tmp_path / ("a long name " * 8) / "[bold]"
    folder.mkdir(parents=True)
    (folder / REPORT).write_text("")
    print_end(Console(file=(said := io.StringIO()), width=width), folder, [verdict(RUN)], [ONE_SEED])
    lines = said.getvalue().splitlines()
    assert lines[-2:] == [f"report: {folder / REPORT}", f"results in {folder}"]
    words = " ".join(said.getvalue().split())
    assert verdict(RUN) in words and f"What weakens it: - {ONE_SEED}" in words
    assert max(map(len, lines[:-2])) <= width


def test_nothing_in_a_table_is_cut_off_whatever_the_width():
    numbers = ["77.4 [75.6, 78.3]", "100.0 [99.9, 100.0]", "90.0 %"]
    for width in range(30, 140):
        table = Table(title="Krum and others")
        table.add_column("strategy"), table.add_column("setting")
        for name in ("MTA, %", "ASR, %", "published ASR"):
            table.add_column(name, justify="right")
        table.add_row("clip+trimmed_mean+noise", "12,345 samples per client", *numbers)
        print_table(Console(file=(said := io.StringIO()), width=width), table)
        lines = said.getvalue().splitlines()
        assert max(map(len, lines)) <= width and "…" not in said.getvalue()
        assert all(number in said.getvalue() for number in numbers), width
        assert "published" in said.getvalue() and "samples" in said.getvalue()
