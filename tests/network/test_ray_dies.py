"""Ray dies in the midst of a run, or the run itself: what died is said, and nothing is left behind."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from oleander.experiment.records import read_rounds
from oleander.experiment.runner import GONE
from tests.in_process import run_here
from tests.programs import (
    DIGITS,
    ROOT,
    assert_nothing_left_of,
    command,
    kill_tree,
    run,
    short_folder,
    summary,
    wait_for_rounds,
)

pytestmark = [pytest.mark.network, pytest.mark.timeout(600)]
PARTS = {
    "raylet": ("raylet/raylet", r"Ray's .*raylet \(process {pid}\)"),
    "gcs": ("gcs/gcs_server", r"Ray's GCS \(process {pid}\) died"),
    "dashboard agent": ("ray::DashboardAgent", r"Ray's .*dashboard agent \(process {pid}\)"),
    "runtime-env agent": ("ray::RuntimeEnvAgent", r"Ray's .*runtime-env agent \(process {pid}\)"),
    "worker": ("ray::ClientAppActor", "its process died"),
}
"""Words of a process's command line, and what is said once it died."""


@contextlib.contextmanager
def started(*flags, mark: Path, rounds: int = 2, **environment: str):
    """A run that has recorded so many rounds; its TMPDIR is ``mark/tmp``, but for what the environment says."""
    (mark / "tmp").mkdir(exist_ok=True)
    env = os.environ | {"OLEANDER_TEST": str(mark), "TMPDIR": str(mark / "tmp")} | environment
    process = subprocess.Popen(
        command(*DIGITS, *flags, "--out", mark / "out"), cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        wait_for_rounds(process, mark / "out", rounds)
        yield process
    finally:
        kill_tree(process)


def part(process: subprocess.Popen, words: str, seconds: float = 200) -> psutil.Process:
    """Ray's process of these words, as soon as it is there: Ray starts some late, and names them later still."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, f"ended with {process.returncode}, before {words} was there"
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if words in " ".join(child.cmdline()[:3]):
                    return child
        time.sleep(0.1)
    raise AssertionError(f"no {words}")


def left_in(folder: Path, seconds: float = 60) -> list[str]:
    """What is in a folder; waits a while for it to be empty."""
    deadline = time.monotonic() + seconds
    while (left := _entries(folder)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def _entries(folder: Path) -> list[str]:
    try:
        return sorted(map(str, folder.rglob("*")))
    except FileNotFoundError:  # it is being emptied meanwhile
        return ["something"]


@pytest.mark.parametrize("name", PARTS)
def test_a_part_of_ray_that_dies_is_named_and_the_run_ends_with_1(name, tmp_path):
    words, said = PARTS[name]
    mark = tmp_path
    victim, scratch, errors = _killed(name, words, mark)
    assert "Traceback" not in errors
    found = " ".join(errors.split())
    gone = name == "raylet" and GONE in found  # Ray's own code has ended the program at once; the guardian said so
    assert gone or re.search(said.format(pid=victim.pid), found), errors
    assert "finished rounds are in" in errors or name == "worker"
    assert len(read_rounds(mark / "out")) >= 2
    assert not left_in(scratch)
    assert_nothing_left_of(mark)


def _killed(name: str, words: str, mark: Path) -> tuple[psutil.Process, Path, str]:
    scratch = short_folder()
    flags = ["--rounds", 5000, "--evaluate", "last"]
    with started(*flags, mark=mark, TMPDIR=str(scratch)) as process:
        victim = part(process, words)
        victim.kill()
        while name == "worker" and process.poll() is None:  # one that had nothing to do is not missed
            time.sleep(0.5)
            with contextlib.suppress(AssertionError, psutil.Error):
                part(process, words, 1).kill()
        printed, errors = process.communicate(timeout=120)
    assert process.returncode == 1, printed + errors
    return victim, scratch, errors


def test_a_run_whose_raylet_died_goes_on_to_the_same_model(tmp_path, task):
    flags = ["--rounds", 60, "--evaluate", "last"]
    (tmp_path / "broken").mkdir()
    with started(*flags, mark=tmp_path / "broken") as process:
        part(process, "raylet/raylet").kill()
        process.communicate(timeout=120)
    assert process.returncode == 1
    run("--resume", tmp_path / "broken" / "out")
    run_here(*DIGITS, *flags, out=tmp_path / "whole")
    assert summary(tmp_path / "broken" / "out")["model_sha256"] == summary(tmp_path / "whole")["model_sha256"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended_leaves_no_process_and_no_temporary_file(number, tmp_path):
    scratch = short_folder()
    flags = ["--rounds", 5000, "--evaluate", "last"]
    with started(*flags, mark=tmp_path, TMPDIR=str(scratch)) as process:
        assert list(scratch.glob("oleander-*/r/session_*"))
        process.send_signal(number)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[number], errors
    assert "Traceback" not in errors
    assert (GONE in errors) == (number == signal.SIGKILL), errors  # the others end with a word of their own
    assert not left_in(scratch)
    assert_nothing_left_of(tmp_path)


def test_two_runs_at_once_with_a_long_tmpdir_end_alike_and_leave_nothing(tmp_path):
    long, runtime = tmp_path / ("long" * 30), short_folder()
    long.mkdir()
    env = os.environ | {"TMPDIR": str(long), "XDG_RUNTIME_DIR": str(runtime), "OLEANDER_TEST": str(tmp_path)}
    outs = [tmp_path / name for name in "ab"]
    flags = [*DIGITS]
    both = [
        subprocess.Popen(command(*flags, "--out", out), cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True)
        for out in outs
    ]
    try:
        for process in both:
            assert process.wait(250) == 0, process.stderr.read()
    finally:
        for process in both:
            kill_tree(process)
    assert len({summary(out)["model_sha256"] for out in outs}) == 1
    assert not left_in(long) and not left_in(runtime)
    assert_nothing_left_of(tmp_path)


def test_a_refused_run_and_a_study_leave_no_temporary_file(tmp_path):
    scratch = short_folder()
    env = os.environ | {"TMPDIR": str(scratch)}
    flags = [*DIGITS]
    for words, code in (
        ([*flags, "--weights", "nowhere"], 2),
        ([*flags, "--rounds", 1, "--sweep", "malicious=1,2", "--out", tmp_path / "study"], 0),
    ):
        ended = subprocess.run(
            command(*words), cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False
        )
        assert ended.returncode == code, ended.stdout + ended.stderr
        assert not left_in(scratch), words


def test_a_scratch_folder_outlives_not_even_a_process_that_is_killed(tmp_path):
    script = "import time; from oleander.system.processes import scratch_folder; print(scratch_folder(), flush=True); time.sleep(60)"
    env = os.environ | {"TMPDIR": str(tmp_path)}
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
    folder = Path(process.stdout.readline().strip())
    (folder / "deep").mkdir()
    (folder / "deep" / "file").write_text("left")
    process.kill()
    process.wait()
    assert folder.parent == tmp_path and not left_in(tmp_path)
