"""What a call's process ends with is what the caller gets, and it leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from oleander.calls import process
from oleander.settings.call import Call
from oleander.system.errors import RunError, UserError

CALL = Call("run", "run()")
READ = "import json, sys, time, os; asked = json.loads(sys.stdin.readline()); "
DONE = 'open(asked["notices"], "w").write(json.dumps(["told"]))'


def played(monkeypatch, program):
    """The process of a call is this program instead."""
    monkeypatch.setattr(process, "PROGRAM", (READ + program).replace("{", "{{").replace("}", "}}"))


def test_it_is_told_the_call_and_tells_its_notices_and_prints_nothing_unless_asked(monkeypatch, tmp_path, capfd):
    played(monkeypatch, f"print('a'); print('b', file=sys.stderr); print(asked['text'] + chr(0xb5), end=''); {DONE}")
    assert process.carry_out(CALL, tmp_path, verbose=False) == ("told",)
    assert capfd.readouterr() == ("", "")
    process.carry_out(CALL, tmp_path, verbose=True)
    out, err = capfd.readouterr()
    assert out.split() == ["a", "run()µ"] and not err  # what goes to its standard error is the exception's


@pytest.mark.parametrize(
    ("program", "kind", "words"),
    [
        ("print('error: no such thing', file=sys.stderr); sys.exit(2)", UserError, "^no such thing$"),
        (
            "print('x'); print('error: broke; rounds are in x', file=sys.stderr); sys.exit(1)",
            RunError,
            "^broke; rounds are in x$",
        ),
        ("raise ValueError('odd')", RunError, "exit code 1.*ValueError: odd"),
        ("os.kill(os.getpid(), 9)", RunError, "signal SIGKILL, without a word"),
        ("sys.exit(2)", RunError, "exit code 2, without a word"),
    ],
)
def test_its_end_is_an_exception_of_ours(program, kind, words, monkeypatch, tmp_path):
    played(monkeypatch, program)
    with pytest.raises(kind, match=words):
        process.carry_out(CALL, tmp_path, verbose=False)


def test_colours_and_backend_of_a_notebook_are_not_handed_on(monkeypatch, tmp_path):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    played(
        monkeypatch,
        'open(asked["notices"], "w").write(json.dumps([os.environ.get(n) for n in ("FORCE_COLOR", "MPLBACKEND")]))',
    )
    assert process.carry_out(CALL, tmp_path, verbose=False) == (None, "Agg")


def test_what_it_left_running_with_its_output_open_is_not_waited_for(monkeypatch, tmp_path):
    monkeypatch.setattr(process, "LAST_SECONDS", 0.5)
    played(monkeypatch, f"import subprocess; subprocess.Popen(['sleep', '30']); {DONE}")
    began = time.monotonic()
    process.carry_out(CALL, tmp_path, verbose=False)
    assert time.monotonic() - began < 25


@pytest.mark.parametrize("deaf", [False, True])
def test_an_interruption_ends_it_and_comes_through(deaf, monkeypatch, tmp_path):
    """``deaf``: it does not end when it is asked to."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore Ctrl-C
    monkeypatch.setattr(process, "INTERRUPT_SECONDS", 0.5)
    ignore = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); " if deaf else ""
    played(monkeypatch, f"{ignore}open(asked['notices'], 'w').write(str(os.getpid())); time.sleep(60)")

    def interrupt():
        while not (pid := (tmp_path / "notices.json")).exists() or not pid.read_text():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            process.carry_out(CALL, tmp_path, verbose=False)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not psutil.pid_exists(int((tmp_path / "notices.json").read_text()))


def test_a_call_from_another_thread_needs_no_signal_handler(monkeypatch, tmp_path):
    played(monkeypatch, DONE)
    told = []
    thread = threading.Thread(target=lambda: told.append(process.carry_out(CALL, tmp_path, verbose=True)))
    thread.start()
    thread.join()
    assert told == [("told",)]


def test_a_run_ends_when_its_caller_is_killed(tmp_path):
    """The real program: it waits for the end of its input. Here it stands still in the midst of its work."""
    script = (
        "import simulate, time\n"
        f"simulate._run_command = lambda *_: (open({str(tmp_path / 'pid')!r}, 'w').close(), time.sleep(60))\n"
        "simulate.called()"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, cwd=process.ROOT, text=True)
    child.stdin.write(
        json.dumps(vars(CALL) | {"settings": {"dataset": "toy"}, "notices": str(tmp_path / "notices")}) + "\n"
    )
    child.stdin.flush()
    while not (tmp_path / "pid").exists():
        assert child.poll() is None
        time.sleep(0.05)
    child.stdin.close()  # as the system does when the caller dies
    assert child.wait(30) == 1


def test_importing_simulate_changes_nothing_of_the_process():
    """Environment, signal handlers, output, threads, child processes, logging: as they were."""
    script = """
import logging, os, signal, sys, threading
def state():
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)]
    root = logging.getLogger()
    return dict(os.environ), handlers, sys.stdout, sys.stderr, threading.active_count(), list(root.handlers), root.level
before = state()
import simulate
from simulate import run, study
assert state() == before
heavy = {'torch', 'ray', 'flwr', 'matplotlib', 'pandas'} & set(sys.modules)
assert not heavy, heavy
"""
    environment = {n: v for n, v in os.environ.items() if not n.startswith(("RAY", "FLWR", "THP"))}
    subprocess.run([sys.executable, "-c", script], cwd=process.ROOT, env=environment, check=True)
