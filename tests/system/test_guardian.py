"""The process that outlives a run says that it is gone, where the run could not, and only there."""

import os
import subprocess
import sys

import pytest

from tests.programs import ROOT

SCRIPT = """
import os, signal, subprocess, sys
from oleander.system import processes
from oleander.system.processes import Chatter, end_now, end_on_signals, last_word, scratch_folder
end_on_signals()
with Chatter():
    folder = scratch_folder()
    with last_word("error: gone\\n"):
        {way}
    {after}
"""
GONE = {
    "Ray's own end": ("os._exit(1)", "pass", 1),
    "killed": ("os.kill(os.getpid(), signal.SIGKILL)", "pass", -9),
}
OTHERS = {
    "well": ("pass", "pass", 0),
    "an error": ("raise ValueError('x')", "pass", 1),
    "after the run": ("pass", "os._exit(3)", 3),
    "ended by itself": ("end_now(1)", "pass", 1),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM)", "pass", 143),
}


def ended(way, after, tmp_path, stderr=subprocess.PIPE):
    script = SCRIPT.format(way=way, after=after)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=os.environ | {"TMPDIR": str(tmp_path)}, check=False, stderr=stderr,
        text=True, timeout=100,
    )  # fmt: skip
    return done.returncode, done.stderr


@pytest.mark.parametrize("how", GONE)
def test_a_program_that_is_gone_without_a_word_has_it_said(how, tmp_path):
    way, after, code = GONE[how]
    assert ended(way, after, tmp_path) == (code, "error: gone\n")


@pytest.mark.parametrize("how", OTHERS)
def test_one_that_ends_by_itself_does_not(how, tmp_path):
    way, after, code = OTHERS[how]
    returned, said = ended(way, after, tmp_path)
    assert returned == code and "gone" not in said


def test_an_error_output_that_nobody_takes_is_no_matter(tmp_path):
    with open("/dev/full", "w") as full:
        assert ended("os._exit(1)", "pass", tmp_path, full)[0] == 1
