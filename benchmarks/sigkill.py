"""What SIGKILL leaves, and whether what is resumed comes to the model that it would have had.

``simulate.py`` and ``server.py`` with six client processes are killed at exact points: before their first round, in training, in
aggregation and while the state is half written, each in rounds 1, 2 and 3 of 4. Each is then resumed, and its model's
SHA-256 compared with that of a run that nobody killed. Nothing may be left: no process, no port, no file in TMPDIR.
"""

import contextlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.common import arguments, show, write

ROOT = Path(__file__).parent.parent
PHASES = ("waiting", "training", "aggregation", "writing")
TINY = ["--scenario", "dba", "--dataset", "toy", "--rounds", "4", "--samples-per-client", "16", "--batch-size", "8",
        "--local-epochs", "1", "--precision", "fp32", "--client-threads", "1", "--evaluate", "last"]  # fmt: skip
PORT = 18370
CLIENTS = 6
GONE_SECONDS = 30.0
"""How long what was started may take to end after its program was killed."""


def main() -> None:
    """Kill, resume, compare; ends with 1 where anything differs or is left."""
    told = arguments(__doc__, programs=(["simulate", "server"], "whom to kill"), rounds=([1, 2, 3], "in which rounds"))
    with tempfile.TemporaryDirectory() as scratch:
        wanted = _whole(Path(scratch))
        found = [
            _killed(program, phase, number, Path(scratch) / f"{program}-{phase}-{number}")
            for program in told.programs for phase in PHASES for number in told.rounds
        ]  # fmt: skip
    rows = [
        [*(f[k] for k in ("program", "phase", "round")), f["sha256"] == wanted, f["left"] or "nothing"] for f in found
    ]
    show("Killed by SIGKILL and resumed", ("program", "in", "round", "same model", "left behind"), rows)
    good = sum(f["sha256"] == wanted and not f["left"] for f in found)
    print(f"{good} of {len(found)} came to {wanted[:12]}… and left nothing")
    write(told.json, wanted=wanted, found=found)
    sys.exit(0 if good == len(found) else 1)


def _whole(scratch: Path) -> str:
    out = scratch / "whole"
    subprocess.run(
        [sys.executable, "simulate.py", *TINY, "--out", str(out)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
    )
    return _sha256(out)


def _killed(program: str, phase: str, number: int, base: Path) -> dict[str, Any]:
    """One program killed once in this phase and round, then resumed."""
    base.mkdir()
    (base / "tmp").mkdir()
    out, mark = base / "run", str(base)
    environment = os.environ | {"TMPDIR": str(base / "tmp"), "OLEANDER_MARK": mark}
    log = (base / "log.txt").open("wb")
    how: dict[str, Any] = {"cwd": ROOT, "env": environment, "stdout": log, "stderr": log}
    port = ["--port", str(PORT)] if program == "server" else []
    clients = [
        subprocess.Popen(
            [sys.executable, "-m", "clients", "--server", f"127.0.0.1:{PORT}", "--client-id", str(i)], **how
        )
        for i in range(CLIENTS if program == "server" else 0)
    ]
    victim = [
        sys.executable,
        "-m",
        "benchmarks.sigkill",
        "--victim",
        program,
        phase,
        str(number),
        *TINY,
        *port,
        "--out",
        str(out),
    ]
    code = subprocess.run(victim, check=False, timeout=300, **how).returncode
    with contextlib.suppress(FileNotFoundError):
        if (out / "config.toml").is_file():
            again = subprocess.run(
                [sys.executable, f"{program}.py", "--resume", str(out), *port], check=False, timeout=300, **how
            )
        else:  # killed before anything was kept: it is simply run
            again = subprocess.run(
                [sys.executable, f"{program}.py", *TINY, *port, "--out", str(base / "run2")],
                check=False,
                timeout=300,
                **how,
            )
            out = base / "run2"
    ends = [code, again.returncode, *(client.wait(timeout=120) for client in clients)]
    left = _left(base, mark)
    if ends != [-signal.SIGKILL, 0, *[0] * len(clients)]:
        left = f"ended with {ends}; {left}"
    print(program, phase, number, _sha256(out)[:12], left or "nothing left", flush=True)
    return {"program": program, "phase": phase, "round": number, "sha256": _sha256(out), "left": left}


def _sha256(out: Path) -> str:
    try:
        return str(json.loads((out / "summary.json").read_text())["model_sha256"])
    except (OSError, ValueError, KeyError):
        return "none"


def _left(base: Path, mark: str) -> str:
    """What is still there of what was started: processes, files in TMPDIR, a port that somebody listens on."""
    deadline = time.monotonic() + GONE_SECONDS
    while True:
        processes = [p.name() for p in psutil.process_iter() if _is_ours(p, mark)]
        files = sorted(entry.name for entry in (base / "tmp").iterdir())
        ports = [
            c.laddr.port
            for c in psutil.net_connections("tcp")
            if c.status == psutil.CONN_LISTEN and c.laddr.port == PORT
        ]
        found = ", ".join(map(str, [*processes, *files, *ports]))
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


def _is_ours(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get("OLEANDER_MARK") == mark and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def victim(program: str, phase: str, number: int) -> None:
    """Run the program in this process, which kills itself when it comes to the phase in that round."""

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if phase == "waiting" and program == "server":  # for its clients
        from oleander.network.roster import NetworkRoster

        look, calls = NetworkRoster.nodes, {"made": 0}

        def wait(self: Any, grid: Any) -> Any:
            calls["made"] += 1
            return die() if calls["made"] == number else look(self, grid)

        NetworkRoster.nodes = wait  # type: ignore[method-assign]
    elif phase == "waiting":  # for Ray, while it starts
        import oleander.experiment.prepare as preparing

        whole = preparing.prepare

        def slow(*given: Any, **named: Any) -> Any:
            done = whole(*given, **named)
            time.sleep(1.5 * (number - 1))
            return die() or done

        preparing.prepare = slow
    elif phase == "writing":
        import oleander.experiment.resume as resuming

        kept = {"rounds": -1}

        def half(file: Path, content: bytes) -> None:
            kept["rounds"] += 1
            if kept["rounds"] == number:
                file.with_name(f".{file.name}").write_bytes(content[: len(content) // 2])
                die()
            whole_write(file, content)

        whole_write, resuming.replace_file = resuming.replace_file, half
    else:
        import strategies
        from strategies import flower

        if phase == "aggregation":
            aggregated = strategies.Pipeline.aggregated

            def cut_off(self: Any, cohort: Any) -> Any:
                done = aggregated(self, cohort)
                return die() if cohort.round == number else done

            strategies.Pipeline.aggregated = cut_off  # type: ignore[method-assign]
        else:
            read = flower.read_reply

            def first(*given: Any, **named: Any) -> Any:
                asked["replies"] += 1
                return die() if asked["replies"] == CLIENTS * (number - 1) + 2 else read(*given, **named)

            asked, flower.read_reply = {"replies": 0}, first
    runpy.run_path(str(ROOT / f"{program}.py"), run_name="__main__")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--victim"]:
        _, _, _program, _phase, _number, *_rest = sys.argv
        sys.argv = [f"{_program}.py", *_rest]
        victim(_program, _phase, int(_number))
    else:
        main()
