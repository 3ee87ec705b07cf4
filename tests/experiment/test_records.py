"""What a run leaves and shows, from made-up records: folder, rates, table, figures."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from rich.text import Text

from oleander.experiment.records import (
    RoundRecord,
    RunFolder,
    Summary,
    default_folder,
    detection_rates,
    read_rounds,
    read_summary,
)
from oleander.reports.plots import draw_figures
from oleander.reports.tables import print_results
from oleander.settings.config import Experiment
from oleander.system.console import error_line
from oleander.system.errors import UserError
from oleander.system.files import absolute, replace_file

START = RoundRecord(0, 0.75, 0.05, 1.0, [], [], [], [], [], [], [], 0, 0, {"evaluate": 1.0})
ROUND = RoundRecord(
    1, 0.5, 0.9, float("nan"), [0, 2, 3], [True, False, False], [9.0, 2.0, 3.0], [2.5, 2.0, 2.5], [0.0, 0.5, 0.5],
    [0.1, 0.2, 0.3], [{"client": 4, "cause": "it [raised]"}], 2, 512, {"train": 1.0, "aggregate": 0.1, "evaluate": 1.0},
)  # fmt: skip
SUMMARY = Summary(
    "mine", "clip+fedavg", "blend+scaling", "toy", 0, "once", [0], 0.5, 0.9, 0.75, 0.05, 1.0, 0.0, "ab" * 32, "a fresh model",
    "cd" * 32, "cpu", {"total": 4.0, "startup": 1.0, "train": 1.0, "aggregate": 0.1, "evaluate": 2.0, "other": -0.1},
)  # fmt: skip


def folder_of(path, rounds) -> RunFolder:
    folder = RunFolder(path)
    for record in rounds:
        folder.append(record)
    images = np.zeros((2, 3, 32, 32), dtype=np.uint8)
    np.savez(path / "samples.npz", clean=images, classes=np.array(["a", "b"]), parts=images[None], whole=images)
    return folder


def test_rounds_come_back_as_they_were_and_json_is_strict(tmp_path):
    folder = folder_of(tmp_path / "run", [START, ROUND])
    assert read_rounds(folder.path) == [START, replace(ROUND, loss=None)]
    for line in (folder.path / "rounds.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_records_from_before_robust_accuracy_are_read(tmp_path):
    folder = folder_of(tmp_path / "run", [START, replace(ROUND, robust_accuracy=0.25)])
    folder.write_summary(replace(SUMMARY, robust_accuracy=0.25))
    assert read_rounds(folder.path)[1].robust_accuracy == read_summary(folder.path).robust_accuracy == 0.25
    lines = [json.loads(line) for line in (folder.path / "rounds.jsonl").read_text().splitlines()]
    for line in lines:
        del line["robust_accuracy"]
    (folder.path / "rounds.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    summary = json.loads((folder.path / "summary.json").read_text())
    del summary["robust_accuracy"]
    (folder.path / "summary.json").write_text(json.dumps(summary))
    assert read_rounds(folder.path)[1].robust_accuracy is None and read_summary(folder.path).robust_accuracy is None


def test_detection_rates():
    second = replace(ROUND, influence=[0.5, 0.0, 0.5])
    assert detection_rates([START, ROUND, second]) == (0.5, 0.25)
    assert detection_rates([START]) == (None, None)


def test_default_folders_never_meet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = Experiment(scenario="my_dba", strategy="clip+multi_krum", seed=3)
    folders = [default_folder(experiment, 0.0) for _ in range(3)]
    assert len(set(folders)) == 3 and all(folder.is_dir() for folder in folders)
    assert all(folder.name.startswith("my_dba-clip+multi_krum-s3-19") for folder in folders)


def test_a_default_folder_that_cannot_be_made_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").write_text("mine")
    with pytest.raises(UserError, match=r"runs/.*cannot make the run's folder.*--out DIR"):
        default_folder(Experiment(), 0.0)


def test_a_run_that_ended_before_it_began_leaves_its_folder_free(tmp_path):
    (tmp_path / "log.txt").write_text("Ctrl-C")
    (tmp_path / ".lock").write_text("")
    RunFolder(tmp_path).write_settings(Experiment(), {})
    with pytest.raises(UserError, match="not empty"):
        RunFolder(tmp_path)


def test_a_file_that_cannot_be_written_leaves_no_scratch_and_the_old_one(tmp_path, monkeypatch):
    replace_file(tmp_path / "x", b"old")

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        replace_file(tmp_path / "x", b"new")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("x", b"old")]


def test_a_path_of_nobodys_home_is_refused():
    with pytest.raises(UserError, match=r"~nobody-at-all/x: .*\./~nobody-at-all/x"):
        absolute("~nobody-at-all/x")


def test_an_error_nobody_foresaw_names_its_log_whatever_the_folder_is_called():
    text = Text.from_markup(error_line(KeyError("[/x]"), Path("results[v2] [/y]/log.txt"))).plain
    assert text.endswith("the traceback is in results[v2] [/y]/log.txt")


@pytest.mark.parametrize("kind", ["file", "holds something"])
def test_a_taken_folder_is_refused(tmp_path, kind):
    path = tmp_path / "x"
    if kind == "file":
        path.write_text("mine")
    else:
        path.mkdir()
        (path / "mine").write_text("")
    with pytest.raises(UserError, match="not empty"):
        RunFolder(path)
    RunFolder(tmp_path / "new" / "below")
    (tmp_path / "empty").mkdir()
    RunFolder(tmp_path / "empty")


def test_a_refused_run_leaves_no_folder_and_takes_none_away(tmp_path):
    RunFolder(tmp_path / "new").discard()
    assert not (tmp_path / "new").exists()
    (tmp_path / "mine").mkdir()
    RunFolder(tmp_path / "mine").discard()
    assert list((tmp_path / "mine").iterdir()) == []


def test_names_with_signs_of_other_languages_are_shown_as_they_are(tmp_path):
    folder = folder_of(tmp_path / "run", [START, ROUND])
    odd = replace(SUMMARY, dataset="folder:a$_$b [v2] ü", scenario="x_[/y]")
    draw_figures(folder.path, odd)
    text = io.StringIO()
    print_results(Console(file=text, width=200), folder.path, odd)
    assert "on a$_$b [v2] ü" in text.getvalue() and "x_[/y]" in text.getvalue()


def test_table_shows_who_was_malicious_left_out_and_clipped(tmp_path):
    folder = folder_of(tmp_path / "run", [START, ROUND])
    text = io.StringIO()
    print_results(Console(file=text, width=140), folder.path, SUMMARY)
    shown = text.getvalue()
    for words in (
        "0*: 9.00→2.50, 0.00",
        "2: 2.00, 0.50",
        "4: left out",
        "50.0 %",
        "baseline 5.0 %",
        "on toy images",
        "ab" * 32,
    ):
        assert words in shown, words


@pytest.mark.parametrize("clients", [3, 40])
@pytest.mark.parametrize("rounds", [1, 12])
def test_figures_are_drawn_for_few_and_many(tmp_path, clients, rounds):
    ids = list(range(clients))
    record = replace(
        ROUND, client_ids=ids, malicious=[i == 0 for i in ids], norms_before=[1.0 + 100 * (i == 0) for i in ids],
        norms_after=[1.0] * clients, influence=[float(i == 1) for i in ids], asr=None, dropped=[],
    )  # fmt: skip
    folder = folder_of(
        tmp_path / "run", [replace(START, asr=None), *(replace(record, round=r + 1) for r in range(rounds))]
    )
    draw_figures(folder.path, SUMMARY)
    for name in ("scores", "norms", "samples"):
        image = np.asarray(Image.open(folder.path / "figures" / f"{name}.png").convert("RGB"))
        assert min(image.shape[:2]) > 200 and image.std() > 5
    shown = (folder.path / "figures" / "norms.svg").read_text()
    assert "benign" in shown and "malicious" in shown and "left out by the defence" in shown


def test_figures_are_the_same_bytes_again(tmp_path):
    for name in ("a", "b"):
        draw_figures(folder_of(tmp_path / name, [START, ROUND]).path, SUMMARY)
    for figure in ("scores.svg", "norms.svg", "samples.png"):
        assert (tmp_path / "a/figures" / figure).read_bytes() == (tmp_path / "b/figures" / figure).read_bytes()
