"""Somebody at the ports of a Ray that is not theirs: ``python stranger.py MARKER GCS_PORT HOST PORT…``; prints what was answered.

Tries to open each port, to call it by HTTP and by Ray's gRPC services, to join as a driver and run a task that writes the file
MARKER, and to join as a node. Knows nothing of Oleander.
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

METHODS = (
    "InternalKVGcsService/InternalKVKeys",
    "InternalKVGcsService/InternalKVPut",
    "NodeInfoGcsService/RegisterNode",
    "NodeInfoGcsService/GetAllNodeInfo",
    "NodeInfoGcsService/GetClusterId",
    "JobInfoGcsService/AddJob",
    "ActorInfoGcsService/RegisterActor",
    "WorkerInfoGcsService/AddWorkerInfo",
    "NodeManagerService/RequestWorkerLease",
    "NodeManagerService/GetNodeStats",
    "ObjectManagerService/Push",
    "ObjectManagerService/Pull",
    "CoreWorkerService/PushTask",
    "CoreWorkerService/GetObjectStatus",
    "CoreWorkerService/KillActor",
    "CoreWorkerService/Exit",
)
PATHS = (
    "/",
    "/metrics",
    "/api/version",
    "/get_or_create_runtime_env",
    "/get_runtime_envs_info",
    "/api/local_raylet_healthz",
    "/logs",
)
DRIVER = """
import sys, ray
ray.init(address=sys.argv[1], logging_level="ERROR")
ray.get(ray.remote(num_cpus=0)(lambda path: open(path, "w").write("was here")).remote(sys.argv[2]), timeout=60)
print("is in", flush=True)
"""


def by_http(host: str, port: int) -> set[str]:
    answers = set()
    for path in PATHS:
        for data in (None, b""):
            try:
                with urllib.request.urlopen(f"http://{host}:{port}{path}", data=data, timeout=5) as reply:
                    answers.add(str(reply.status))
            except urllib.error.HTTPError as error:
                answers.add(str(error.code))
            except OSError:
                answers.add("nothing")
            except Exception as error:  # no HTTP
                answers.add(type(error).__name__)
    return answers


def by_grpc(host: str, port: int, token: str) -> set[str]:
    import grpc

    answers = set()
    login = (("authorization", f"Bearer {token}"),) if token else ()
    with grpc.insecure_channel(f"{host}:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        for method in METHODS:
            call = channel.unary_unary(f"/ray.rpc.{method}")
            try:
                call(b"", timeout=5, metadata=login)
                answers.add("OK")
            except grpc.RpcError as error:
                answers.add(error.code().name)
    return answers


@contextlib.contextmanager
def joined(*words: str, seconds: float = 60) -> Iterator[bool]:
    """Whether a program of Ray's gets in: it says ``is in``, or ``Ray runtime started``. It runs until the context ends."""
    with tempfile.TemporaryFile("w+") as said:
        program = subprocess.Popen(words, stdout=said, stderr=subprocess.STDOUT, start_new_session=True)
        deadline, inside = time.monotonic() + seconds, False
        while not inside and program.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
            said.seek(0)
            inside = re.search("is in|Ray runtime started", said.read()) is not None
        said.seek(0)
        text = said.read()
        yield re.search("is in|Ray runtime started", text) is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.wait()
    print(text, file=sys.stderr)


def main(marker: str, gcs: str, host: str, ports: list[str]) -> None:
    token, answers = os.environ.get("RAY_AUTH_TOKEN", ""), {}
    ray = str(Path(sys.executable).with_name("ray"))
    start = (ray, "start", f"--address={host}:{gcs}", "--num-cpus=1", "--disable-usage-stats", "--block")
    with joined(*start) as node, joined(sys.executable, "-c", DRIVER, f"{host}:{gcs}", marker) as driver:
        pass
    for port in map(int, ports):  # after the joining: an empty request is the end of an open GCS
        try:
            socket.create_connection((host, port), timeout=5).close()
        except OSError:
            continue
        answers[port] = {"http": sorted(by_http(host, port)), "grpc": sorted(by_grpc(host, port, token))}
    print(json.dumps({"answers": answers, "driver": driver, "node": node}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
