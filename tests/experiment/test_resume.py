"""A stopped run goes on to the very end it would have had, and nothing that is damaged or foreign is built upon."""

import json
import os
import signal
import subprocess
import time
from dataclasses import asdict, replace

import numpy as np
import pytest

import simulate
from oleander.experiment.records import RoundRecord, RunFolder, read_rounds, settings_of
from oleander.experiment.resume import keep, mend, standing_of
from oleander.learning.parameters import Layout, ModelState
from oleander.settings.cli import parse_command
from oleander.settings.config import Experiment
from oleander.system.errors import UserError
from strategies.flower import RoundOutcome
from tests.in_process import run_here
from tests.programs import DIGITS, ROOT, assert_nothing_left_of, command, run, summary

LAYOUT = Layout(("w", "s"), ((3,), (2,)), (True, False))
STATE = ModelState(np.array([1, 2, 3], np.float32), np.array([4, 5], np.float32))
START = RoundRecord(0, 0.75, 0.05, 1.0, [], [], [], [], [], [], [], 0, 0, {"evaluate": 1.0})
OUTCOME = RoundOutcome(
    1, [0, 2], {1: "it raised"}, [0.1, 0.2], [1.0, 2.0], [1.0, 1.5], [0.5, 0.5], 3, 64, {"train": 1.0}
)
LONG = (pytest.mark.network, pytest.mark.timeout(600))  # two programs one after the other
ABOUT = {"start": "a fresh model", "dataset_sha256": "ab" * 32, "trigger_sha256": "cd" * 32}


@pytest.fixture
def stopped(tmp_path):
    """A run that stopped after round 1 was aggregated and before it was scored."""
    folder = RunFolder(tmp_path / "run")
    folder.write_settings(Experiment(scenario="mine", rounds=3), {})
    keep(folder.path, 0, STATE, None, ABOUT)
    folder.append(START)
    keep(folder.path, 1, STATE, OUTCOME, ABOUT)
    folder.release()
    return folder.path


def test_what_was_kept_comes_back(stopped):
    standing = standing_of(stopped, LAYOUT)
    assert (standing.round, standing.outcome, standing.records) == (1, OUTCOME, [START])
    assert (standing.start, standing.dataset_sha256) == ("a fresh model", "ab" * 32)
    assert np.array_equal(standing.state.weights, STATE.weights) and np.array_equal(
        standing.state.statistics, STATE.statistics
    )
    assert settings_of(stopped) == Experiment(scenario="mine", rounds=3, out=str(stopped))


def test_a_line_cut_off_in_its_writing_is_passed_over_and_mended(stopped):
    whole = (stopped / "rounds.jsonl").read_bytes()
    (stopped / "rounds.jsonl").write_bytes(whole + b'{"round": 1, "mt')
    standing = standing_of(stopped, LAYOUT)
    assert standing.records == [START]
    mend(stopped, standing)
    assert (stopped / "rounds.jsonl").read_bytes() == whole


def test_a_round_that_is_on_record_is_not_scored_again(stopped):
    folder = RunFolder(stopped, again=True)
    folder.append(replace(START, round=1))
    assert [record.round for record in standing_of(stopped, LAYOUT).records] == [0, 1]
    folder.release()


def test_a_run_that_ended_before_anything_was_kept_starts_anew(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.write_settings(Experiment(), {})
    assert standing_of(folder.path, LAYOUT) is None


def flip(file, at=-1):
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)


DAMAGES = {
    "a flipped bit in the model": (lambda f: flip(f / "state.safetensors"), "another SHA-256"),
    "a state cut short": (lambda f: (f / "state.safetensors").write_bytes((f / "state.safetensors").read_bytes()[:40]), "damaged"),
    "no state": (lambda f: (f / "state.safetensors").unlink(), "state.safetensors is not there"),
    "other settings": (lambda f: (f / "config.toml").write_text('scenario = "mine"\nrounds = 9\n'), "not the one"),
    "other rounds": (lambda f: flip(f / "rounds.jsonl", 12), "rounds.jsonl was changed"),
    "no rounds": (lambda f: (f / "rounds.jsonl").unlink(), "rounds.jsonl was changed"),
    "a round too many": (
        lambda f: (f / "rounds.jsonl").open("a").write(json.dumps(asdict(replace(START, round=7))) + "\n"), "rounds [0, 7]",
    ),
    "a line of nonsense": (lambda f: (f / "rounds.jsonl").open("a").write("nonsense\n"), "damaged"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_refused(stopped, damage):
    spoil, words = DAMAGES[damage]
    spoil(stopped)
    with pytest.raises(UserError) as error:
        standing_of(stopped, LAYOUT)
    assert words in str(error.value) and str(stopped) in str(error.value)


def test_another_model_is_refused(stopped):
    with pytest.raises(UserError, match="another model"):
        standing_of(stopped, Layout(("w", "s"), ((4,), (2,)), (True, False)))


def test_a_folder_in_which_another_process_runs_is_refused(stopped):
    first = RunFolder(stopped, again=True)
    with pytest.raises(UserError, match="another process"):
        RunFolder(stopped, again=True)
    first.release()
    RunFolder(stopped, again=True).release()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--seed", "3", "--scenario", "dba"], ["--seed", "--scenario", "config.toml"]),
        (["--repeats", "2"], ["--repeats"]),
        (["--client-gpus", "0"], ["--client-gpus"]),
    ],
)
def test_flags_that_would_make_another_run_of_it_are_refused(flags, words, stopped):
    with pytest.raises(UserError) as refused:
        simulate.resume(parse_command(["--resume", str(stopped), *flags]))
    assert all(word in str(refused.value) for word in words), refused.value


def test_what_cannot_be_resumed_exits_with_2(tmp_path):
    assert "is not there" in run("--resume", tmp_path / "none", code=2).stderr
    assert "wanted a run's folder" in run("--resume", "", code=2).stderr


def test_a_study_is_not_resumed_but_run_again(tmp_path):
    (tmp_path / "study.json").write_text("{}")
    with pytest.raises(UserError, match="run again"):
        settings_of(tmp_path)


@pytest.mark.parametrize(
    ("strategy", "attack"),
    [
        ("fedavg", ["dba"]),
        pytest.param("foolsgold+fedadam", ["dba"], marks=LONG),
        pytest.param("fedavg", ["neurotoxin+a3fl", "--a3fl-steps", 3], marks=LONG),
    ],
)
def test_a_run_killed_in_round_3_and_resumed_ends_as_one_left_alone(
    strategy, attack, tmp_path, task, capfd, same_environment
):
    """SIGKILL, in the third round of many or a little later, whether its strategy or its attackers remember or not."""
    flags = [*DIGITS, "--strategy", strategy, "--attack", *attack, "--rounds", 12, "--samples-per-client", 10]
    run_here(*flags, out=tmp_path / "whole")
    killed = tmp_path / "killed"
    process = subprocess.Popen(
        command(*flags, "--out", killed), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | {"OLEANDER_TEST": str(tmp_path)},
    )  # fmt: skip
    deadline = time.monotonic() + 150
    while not (killed / "rounds.jsonl").exists() or len((killed / "rounds.jsonl").read_text().splitlines()) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    assert not (killed / "summary.json").exists() and (killed / "state.safetensors").exists()
    known = len(read_rounds(killed))
    printed = run("--resume", killed).stdout
    assert f"round {known}/12" in printed and "start  MTA" not in printed
    whole, resumed = summary(tmp_path / "whole"), summary(killed)
    assert resumed["model_sha256"] == whole["model_sha256"]
    for name in whole.keys() - {"seconds"}:
        assert resumed[name] == whole[name], name
    pairs = zip(read_rounds(tmp_path / "whole"), read_rounds(killed), strict=True)
    assert all(replace(a, seconds={}) == replace(b, seconds={}) for a, b in pairs)
    assert all(seconds > -0.5 for seconds in resumed["seconds"].values()), resumed["seconds"]
    assert not (killed / "state.safetensors").exists() and (killed / "report.html").is_file()
    assert json.loads((killed / "environment.json").read_text())["resumed"][0]["after_round"] >= 1
    capfd.readouterr()
    assert simulate.main(["--resume", str(killed)]) == 0  # nothing is left to do
    assert whole["model_sha256"] in capfd.readouterr().out
    assert_nothing_left_of(tmp_path)
