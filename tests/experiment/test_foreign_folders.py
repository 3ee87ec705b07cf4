"""Run folders that others made are data: nothing is written through them, and what stands in them is checked and is text."""

import json
import os
import re
from dataclasses import asdict, replace

import numpy as np
import pytest

import simulate
from oleander.experiment.records import RunFolder, check_finished, default_folder, read_rounds, read_summary
from oleander.experiment.study import StudyFolder
from oleander.reports.gallery import read_samples
from oleander.reports.plots import draw_figures
from oleander.settings.config import Experiment
from oleander.system.errors import UserError
from oleander.system.files import absolute, appending, file_name, replace_file
from tests.experiment.test_records import ROUND, START, SUMMARY, folder_of

SECRET = b"what stands outside\n"


@pytest.fixture
def outside(tmp_path):
    """A file and a folder of somebody's, beside the run's folder."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_bytes(SECRET)
    return tmp_path / "outside"


@pytest.fixture
def foreign(tmp_path):
    """A run that stopped, as somebody hands it on."""
    folder = RunFolder(tmp_path / "foreign")
    folder.write_settings(Experiment(scenario="mine", rounds=3), {})
    folder.append(START)
    folder.release()
    return folder.path


def written_to(path):
    """All the ways in which a run writes to its folder."""
    folder = RunFolder(path, again=True)
    folder.append(replace(START, round=1))
    folder.note_resumption(1, {"commit": None, "packages": {}, "cpu": "", "device": "", "gpu": None})
    replace_file(path / "state.safetensors", b"x")
    images = np.zeros((2, 3, 32, 32), dtype=np.uint8)
    np.savez(path / "samples.npz", clean=images, classes=np.array(["a", "b"]))
    draw_figures(path, SUMMARY)
    folder.write_summary(SUMMARY)
    folder.release()


NAMES = ["log.txt", ".lock", "rounds.jsonl", "environment.json", "summary.json", "superlink.txt", "state.safetensors",
         ".environment.json", ".summary.json", "samples.npz", "figures", "report.html", "model.safetensors"]  # fmt: skip


@pytest.mark.parametrize("kind", ["link", "hard link", "link to nothing"])
@pytest.mark.parametrize("name", NAMES)
def test_no_link_in_a_run_folder_leads_a_write_outside(foreign, outside, name, kind):
    (foreign / name).unlink(missing_ok=True)
    if kind == "hard link":
        (foreign / name).hardlink_to(outside / "file")
    else:
        target = outside / ("none" if kind == "link to nothing" else "" if name == "figures" else "file")
        (foreign / name).symlink_to(target)
    with pytest.raises(UserError, match=re.escape(str(foreign / name))):
        written_to(foreign)
    assert [file.name for file in outside.iterdir()] == ["file"] and (outside / "file").read_bytes() == SECRET


@pytest.mark.parametrize("name", ["log.txt", ".lock", "rounds.jsonl", "samples.npz", "state.safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_file_where_one_belongs_is_refused_and_not_waited_for(foreign, name, kind):
    (foreign / name).unlink(missing_ok=True)
    (os.mkfifo if kind == "pipe" else os.mkdir)(foreign / name)
    with pytest.raises(UserError, match=re.escape(str(foreign / name))):
        RunFolder(foreign, again=True)


@pytest.mark.parametrize("where", ["runs", "runs/one", "runs/one/log.txt", "figures", "log.txt"])
def test_no_link_in_a_study_leads_a_write_outside(tmp_path, outside, where):
    study = tmp_path / "study"
    (study / where).parent.mkdir(parents=True)
    (study / "study.json").write_text("{}")
    (study / where).symlink_to(outside)
    with pytest.raises(UserError, match="is a link"):
        StudyFolder(study)
    assert [file.name for file in outside.iterdir()] == ["file"]


def test_a_new_run_does_not_take_a_folder_whose_log_leads_outside(tmp_path, outside):
    """A folder with no more than a log counts as free."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log.txt").symlink_to(outside / "file")
    with pytest.raises(UserError, match=r"log\.txt: is a link"):
        RunFolder(tmp_path / "run")


def test_a_link_on_the_way_to_the_folder_is_the_users_own(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "way").symlink_to(tmp_path / "disk")
    RunFolder(absolute(str(tmp_path / "way" / "run"))).append(START)
    assert (tmp_path / "disk" / "run" / "rounds.jsonl").is_file()


def test_a_file_is_replaced_and_appended_to_beside_a_link_and_not_through_it(tmp_path, outside):
    for name in ("x", ".y"):
        (tmp_path / name).symlink_to(outside / "file")
    replace_file(tmp_path / "x", b"new")
    replace_file(tmp_path / "y", b"new")
    assert (outside / "file").read_bytes() == SECRET and not (tmp_path / "x").is_symlink()
    (tmp_path / "z").symlink_to(outside / "file")
    with pytest.raises(OSError), appending(tmp_path / "z"):
        pass


@pytest.mark.parametrize("name", ["../../up", "..", ".", "/etc/x", "a\0b", "\x1b[2J", "x" * 500])
def test_a_scenarios_name_leads_nowhere(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    folder = default_folder(Experiment(scenario=name), 0.0)
    assert folder.parent == tmp_path / "runs" and not folder.name.startswith(".") and folder.name.isprintable()
    assert "/" not in file_name(name) and len(file_name(name)) <= 100
    assert file_name("my scénario-krum") == "my scénario-krum"


LINE = json.dumps(asdict(replace(ROUND, loss=None)))
BAD_ROUNDS = {
    "no JSON": "nonsense", "an array": "[]", "null": "null", "empty": "", "nested": "[" * 100_000,
    "a long number": LINE.replace("512", "9" * 5000),
    "NaN": LINE.replace("0.9", "NaN", 1), "infinite": LINE.replace("0.9", "1e999", 1),
    "text for a number": LINE.replace('"mta": 0.5', '"mta": "<b>"'), "true for a number": LINE.replace('"mta": 0.5', '"mta": true'),
    "another field": LINE.replace('"mta"', '"mtb"'), "one field more": LINE[:-1] + ', "x": 1}',
    "a name twice": LINE[:-1] + ', "mta": 0.1}',
    "unequal lists": LINE.replace("[0, 2, 3]", "[0, 2]"), "a client of text": LINE.replace("[0, 2, 3]", '[0, 2, "<b>"]'),
    "an accuracy above 1": LINE.replace('"mta": 0.5', '"mta": 7'), "a huge norm": LINE.replace("9.0", "1e300"),
    "a cause that is none": LINE.replace('"it [raised]"', "5"), "dropped what": LINE.replace('"client": 4', '"clint": 4'),
    "no UTF-8": b"\xff\xfe", "a NUL": "\0", "half a pair": LINE.replace("it [raised]", "\\ud800") + "x",
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_ROUNDS)
def test_rounds_that_cannot_be_are_refused(tmp_path, what):
    text = BAD_ROUNDS[what]
    content = text if isinstance(text, bytes) else text.encode()
    (tmp_path / "rounds.jsonl").write_bytes(json.dumps(asdict(START)).encode() + b"\n" + content + b"\n")
    with pytest.raises(UserError, match=r"rounds\.jsonl: "):
        read_rounds(tmp_path)


WHOLE = json.dumps(asdict(SUMMARY))


@pytest.mark.parametrize("name", asdict(SUMMARY))
@pytest.mark.parametrize("value", [None, True, "<script>", -1, [["x"]], {"a": []}, 10**400, float("nan"), "missing"])
def test_a_summary_is_checked_field_by_field(tmp_path, name, value):
    fields = json.loads(WHOLE) | {name: value}
    if value == "missing":
        del fields[name]
    (tmp_path / "summary.json").write_text(json.dumps(fields))
    right = {"asr", "robust_accuracy", "baseline_asr", "true_positive_rate", "false_positive_rate",
             "repaired", "voted"} if value is None else (
        {n for n, v in asdict(SUMMARY).items() if isinstance(v, str)} if value == "<script>" else
        {"seed"} if isinstance(value, int) and not isinstance(value, bool) else set()
    )  # fmt: skip
    if name in right:
        assert getattr(read_summary(tmp_path), name) == value
    elif value == "missing" and name in (
        "repair",
        "repaired",
        "voted",
        "target_class",
        "robust_accuracy",
        "test_images",
    ):  # of before
        assert read_summary(tmp_path) == SUMMARY
    else:
        with pytest.raises(UserError, match=r"summary\.json"):
            read_summary(tmp_path)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda f: (f / "rounds.jsonl").write_text(json.dumps(asdict(START)) + "\n"),
        lambda f: (f / "rounds.jsonl").write_bytes(b""),
        lambda f: (f / "environment.json").write_text("[]"),
        lambda f: (f / "environment.json").write_text('{"packages": 5}'),
        lambda f: (f / "environment.json").write_text('{"resumed": [{"after_round": "<b>"}]}'),
        lambda f: (f / "config.toml").write_text("nonsense"),
        lambda f: (f / "config.toml").unlink(),
        lambda f: (f / "summary.json").write_text("{}"),
    ],
)
def test_a_finished_run_that_does_not_fit_together_is_refused_before_a_study_takes_it(tmp_path, spoil):
    folder = folder_of(tmp_path / "run", [START, ROUND])
    folder.write_settings(Experiment(rounds=1), {"packages": {}})
    folder.write_summary(SUMMARY)
    check_finished(folder.path)
    spoil(folder.path)
    with pytest.raises(UserError):
        check_finished(folder.path)


def _zip_bomb(path):
    np.savez_compressed(path, clean=np.zeros((4000, 3, 32, 32), np.uint8), classes=np.array(["a"] * 4000))


@pytest.mark.parametrize(
    "write",
    [
        _zip_bomb,
        lambda p: p.write_bytes(b"nonsense"),
        lambda p: np.savez(p, clean=np.zeros((2, 3, 32, 32))),
        lambda p: np.savez(p, clean=np.zeros((2, 3, 32, 32), np.uint8), classes=np.array(["a"])),
        lambda p: np.savez(p, clean=np.array([{"a": 1}], dtype=object), classes=np.array(["a"])),
        lambda p: np.savez(p, clean=np.zeros((1, 3, 2, 2), np.uint8), classes=np.array(["a"]), whole=np.zeros(3, np.uint8)),
        lambda p: os.mkfifo(p),
    ],
    ids=["packed", "nonsense", "floats", "lists of two lengths", "pickled", "another shape", "pipe"],
)  # fmt: skip
def test_samples_that_cannot_be_are_refused(tmp_path, write):
    write(tmp_path / "samples.npz")
    with pytest.raises(UserError, match=r"samples\.npz"):
        read_samples(tmp_path)


def test_resume_of_a_folder_whose_log_leads_outside_exits_with_2_and_leaves_it(foreign, outside, capsys):
    (foreign / "log.txt").unlink()
    (foreign / "log.txt").symlink_to(outside / "file")
    assert simulate.main(["--resume", str(foreign)]) == 2
    assert "log.txt: is a link" in " ".join(capsys.readouterr().err.split())
    assert (outside / "file").read_bytes() == SECRET


def test_a_run_does_not_wait_for_a_pipe_in_place_of_its_log(foreign, capsys):
    """Opened for writing, a pipe that nobody reads would hold the run for ever."""
    (foreign / "log.txt").unlink()
    os.mkfifo(foreign / "log.txt")
    assert simulate.main(["--resume", str(foreign)]) == 2
    assert "log.txt: is not a regular file" in " ".join(capsys.readouterr().err.split())
