"""A client by Flower's own ``flower-supernode`` (``--stock``), which starts a Python process for every message."""

import contextlib
import math
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

from clients.farewell import read_farewell
from oleander.network.address import Address, free_port
from oleander.network.visit import Patience, Told, credentials, key_file, say
from oleander.system.files import absolute
from oleander.system.programs import flower, flower_programs, module_path
from oleander.system.proxies import without_proxies


def serve_stock(
    patience: Patience, address: Address, node_config: dict[str, Any], mailbox: Path, scratch: Path
) -> Told:
    """One time with a server by Flower's own SuperNode; it ends when a farewell lies in the mailbox."""
    flags = patience.flags
    credentials(flags)  # checked before anything starts
    words = " ".join(
        f"{name}={value if isinstance(value, int) else _quoted(value)}" for name, value in node_config.items()
    )
    how = ["--superlink", str(address), "--node-config", words]
    if flags.keys:
        authority = str(absolute(flags.keys) / "ca.crt")
        how += ["--root-certificates", authority, "--auth-supernode-private-key", str(key_file(flags))]
    else:
        how.append("--insecure")
    if math.isfinite(flags.wait):
        how += ["--max-wait-time", f"{flags.wait:g}"]
    env = without_proxies(os.environ) | {
        "FLWR_HOME": str(scratch / "flwr"), "PATH": flower_programs(scratch / "bin"), "PYTHONPATH": module_path(),
        "FLWR_DISABLE_UPDATE_CHECK": "1", "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    }  # fmt: skip
    while True:
        # another port each time: it may have ended for want of the one that it had
        here = ["--host", "127.0.0.1", "--port", str(free_port())]
        say(flags, shlex.join(["flower-supernode", *how, *here]))
        node = subprocess.Popen(
            [*flower("flower-supernode"), *how, *here], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        threading.Thread(target=_pass_on, args=[node.stdout], daemon=True).start()
        try:
            while node.poll() is None:
                if told := read_farewell(mailbox):
                    time.sleep(5.0)  # Flower's node sends the answer within that
                    return Told(str(told["why"]), int(told["code"]), float(told["again"]))
                time.sleep(0.2)
        finally:
            _end(node)
        shutil.rmtree(scratch / "flwr", ignore_errors=True)
        patience.wait(f"flower-supernode ended with {node.returncode}")


def _pass_on(said: IO[bytes]) -> None:
    """What Flower's programs say, by way of this one's output, which holds nobody up."""
    for line in said:
        sys.stdout.write(line.decode("utf-8", "replace"))
        sys.stdout.flush()


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a process and all that it has started."""
    import psutil

    if process.poll() is not None:
        return
    started = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
    for child in started:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
