"""``python -m tests.network.played ROLE HOST:PORT CLIENT KEYS ANSWERS``: a client without PyTorch that plays its part in round 1.

It answers the hello with what ANSWERS (JSON) holds for it, and prints what it does with the time, in seconds since the epoch.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import httpx
import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from oleander.network.internals import FarewellError, Node, NodeRefusedError, failed
from oleander.network.keys import CA, read, read_private
from oleander.system.processes import end_on_signals


def trained(message: Message, answers: dict, *, spoil: bool) -> Message:
    arrays = message.content["arrays"].to_numpy_ndarrays()
    if spoil:
        arrays[0] = np.full_like(arrays[0], np.nan)
    content = {"arrays": ArrayRecord(arrays), "metrics": MetricRecord({"loss": 0.5, **answers["metrics"]})}
    return Message(RecordDict(content), reply_to=message)


def play(message: Message, role: str, answers: dict) -> Message:
    said("asked to train")
    if role == "dead":
        os.kill(os.getpid(), signal.SIGKILL)
    if role == "hanging":
        time.sleep(10_000)
    if role == "slow":
        time.sleep(3)
    if role == "error":
        return failed(message, ValueError("out of cheese"))
    return trained(message, answers, spoil=role == "bad")


def said(text: str) -> None:
    print(f"{time.time():.3f} {text}", flush=True)


def serve(node: Node, role: str, client: str, answers: dict) -> int:
    while True:
        message = node.receive()
        if message is None:
            time.sleep(0.2)
        elif "farewell" in message.content:
            node.answer(Message(RecordDict({"identity": ConfigRecord({})}), reply_to=message), 0.0)
            said(f"farewell: {message.content['farewell']['why']}")
            return int(message.content["farewell"]["code"])
        elif "hello" in message.content:
            identity = ConfigRecord(answers["identity"][client])
            node.answer(Message(RecordDict({"identity": identity}), reply_to=message), 0.0)
        else:
            reply = play(message, role, answers)
            try:
                node.answer(reply, 1.0)
            except (httpx.HTTPError, NodeRefusedError):
                if not (last := node.last_word()):
                    raise
                node.answer(Message(RecordDict({"identity": ConfigRecord({})}), reply_to=last), 0.0)
                said(f"farewell: {last.content['farewell']['why']}")
                return int(last.content["farewell"]["code"])
            said("answered")


def main(role: str, address: str, client: str, keys: str, answers: str) -> int:
    ca, key = (
        (read(Path(keys) / CA), read_private(Path(keys) / f"client-{client}.key")) if keys != "-" else (None, None)
    )
    met = ""
    while True:
        node = Node(address, ca, key)
        try:
            node.join()
            return serve(node, role, client, json.loads(Path(answers).read_text()))
        except FarewellError as told:
            said(f"farewell: {told.why}")
            return told.code
        except (httpx.HTTPError, NodeRefusedError) as error:
            if met != (met := str(error)):
                said(f"no server: {met}")
            time.sleep(0.5)
        finally:
            node.leave()


if __name__ == "__main__":
    end_on_signals()
    sys.exit(main(*sys.argv[1:]))
