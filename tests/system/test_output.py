"""Output is not the work: whoever reads it, or does not, a program does what it was asked and says so by its exit code."""

import fcntl
import os
import subprocess
import sys
import time

import pytest

from oleander.system.errors import RunError
from oleander.system.output import MOST_WAITING, Outlet, Standard, open_what_is_closed
from oleander.system.processes import Chatter
from tests.programs import ROOT


def read_all(descriptor):
    parts = []
    while part := os.read(descriptor, 1 << 16):
        parts.append(part)
    return b"".join(parts).decode()


def test_a_pipe_that_nobody_reads_holds_nobody_up_and_has_the_beginning_and_the_end_in_it():
    read, write = os.pipe()
    outlet = Outlet(write)
    outlet.write("the beginning\n")
    outlet.drain()
    for number in range(10_000):
        outlet.write(f"line {number} " + 190 * "x" + "\n")  # 2 MB, where a pipe takes 64 KiB
    outlet.write("the end\n")
    outlet.close()
    said = read_all(read)
    os.close(read)
    assert said.startswith("the beginning") and said.endswith("the end\n") and "lines were not shown here" in said
    assert len(said) < MOST_WAITING + 80_000


def test_a_reader_who_reads_late_gets_everything_that_fits(monkeypatch):
    read, write = os.pipe()
    outlet = Outlet(write)
    lines = [f"line {number} " + 90 * "x" + "\n" for number in range(1500)]  # 150 kB
    for line in lines:
        outlet.write(line)
    outlet.close()
    assert read_all(read) == "".join(lines)
    os.close(read)


def gone():
    read, write = os.pipe()
    os.close(read)
    return write


def full():
    return os.open("/dev/full", os.O_WRONLY)


def closed():
    read, write = os.pipe()
    os.close(read)
    os.close(write)
    return write


@pytest.mark.parametrize("where", [gone, full, closed])
def test_where_nothing_can_be_written_nothing_fails_and_nothing_waits(where):
    outlet = Outlet(where())
    for _ in range(100):
        assert outlet.write("words\n") == 6
    outlet.flush()
    outlet.drain(60)
    assert not outlet._waiting
    outlet.write("more\n")
    outlet.drain(60)


def test_a_stopped_terminal_is_waited_for_at_the_end_but_not_for_ever():
    import pty
    import termios

    master, slave = pty.openpty()
    termios.tcflow(slave, termios.TCOOFF)  # Ctrl-S
    outlet = Outlet(slave)
    for _ in range(1000):
        outlet.write("words\n")
    began = time.monotonic()
    outlet.drain(0.5)
    assert time.monotonic() - began < 5 and outlet._waiting
    termios.tcflow(slave, termios.TCOON)  # Ctrl-Q
    assert os.read(master, 5) == b"words"
    os.close(master)


def test_chatter_goes_to_the_log_and_what_is_said_does_not_though_nobody_reads_it(tmp_path, monkeypatch):
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    standard = Standard(1, Outlet(write))
    monkeypatch.setattr(sys, "stdout", standard)
    standard.write("before\n")
    with Chatter() as chatter:
        chatter.keep_in(tmp_path / "log.txt")
        print("chatter")
        os.write(1, b"of C++\n")
        for _ in range(2000):
            chatter.out.write("said\n")
    standard.write("after\n")
    standard.outlet.close()
    said = read_all(read)
    os.close(read)
    assert (tmp_path / "log.txt").read_text().endswith("chatter\nof C++\n")
    assert said == "before\n" + 2000 * "said\n" + "after\n"


def test_a_closed_descriptor_is_not_the_next_file_that_is_opened(tmp_path):
    words = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from oleander.system.output import hold_up_nothing
hold_up_nothing()
with open({str(tmp_path / "record")!r}, "w") as record:
    record.write("a record")
    record.flush()
    print("words", flush=True)
    os.write(1, b"of C++")
    os.write(2, b"of C++")
"""
    ended = subprocess.run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", words], check=False)
    assert ended.returncode == 0 and (tmp_path / "record").read_text() == "a record"
    open_what_is_closed()  # nothing is: nothing happens


WAYS = {
    "closed": 'exec "$@" >&-', "both closed": 'exec "$@" >&- 2>&-', "full": 'exec "$@" >/dev/full',
    "both full": 'exec "$@" >/dev/full 2>/dev/full',
}  # fmt: skip
SHORT = [
    (["simulate", "--list"], 0), (["simulate", "--help"], 0), (["simulate", "--scenario", "nope"], 2),
    (["server", "--help"], 0), (["server", "--rounds", "x"], 2), (["clients", "--help"], 0),
    (["clients", "--server", "x", "--client-id", "0"], 2),
]  # fmt: skip


@pytest.mark.parametrize(("words", "code"), SHORT, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_help_lists_and_refusals_end_as_they_would_whatever_becomes_of_their_output(words, code):
    command = [sys.executable, "-m", *words]
    started = {
        way: subprocess.Popen(["sh", "-c", shell, "sh", *command], cwd=ROOT, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL) for way, shell in WAYS.items()
    }  # fmt: skip
    head = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    head.stdout.close()  # | head -0
    complaints = head.stderr.read()
    assert {way: process.wait(100) for way, process in started.items()} == dict.fromkeys(WAYS, code)
    assert head.wait(100) == code and "BrokenPipe" not in complaints and "Traceback" not in complaints


def test_an_error_comes_after_what_was_printed_before_it():
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    os.write(write, b"." * 4095 + b"\n")
    printed = Outlet(os.dup(write))
    error = Outlet(write, after=printed)
    printed.write("printed\n")
    error.write("error\n")
    printed.drain()
    error.close()
    printed.close()
    assert read_all(read).endswith(".\nprinted\nerror\n")
    os.close(read)


def test_an_end_by_itself_says_its_last_line_first(tmp_path):
    """``end_now`` leaves Python at once; what was queued is out before, and of the ending itself nothing is told."""
    words = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from oleander.system.output import hold_up_nothing; hold_up_nothing()\n"
        "from oleander.system.console import say_error; from oleander.system.errors import RunError\n"
        "from oleander.system.processes import end_now\n"
        "import oleander.system.processes as processes\n"
        "frozen = processes._freeze_children\n"
        "processes._freeze_children = lambda: [print('a process died', file=sys.stderr), frozen()][1]\n"
        "say_error(RunError('it failed')); end_now(RunError.exit_code)"
    )
    ended = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=False)
    assert ended.returncode == RunError.exit_code and ended.stderr == "error: it failed\n"
