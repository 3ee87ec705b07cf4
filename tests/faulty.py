"""``python -m tests.faulty FAULTS [flags of simulate.py]``: a run whose clients fail as told, ``0=raise,3=kill`` in round 1.

``2=sit`` is a client that does nothing in round 3, for as long as anybody waits.
"""

import os
import signal
import sys
import time

import numpy as np
import torch

from oleander.system.processes import end_on_signals

if __name__ == "__main__":
    end_on_signals()

from flwr.app import ArrayRecord, Context, Message
from flwr.clientapp import ClientApp

from clients import app as honest
from oleander.learning import training

app = ClientApp()


class Deadly:
    """torch.nn.functional for a client that is killed in its second step."""

    steps = 0

    def __getattr__(self, name: str):
        return getattr(torch.nn.functional, name)

    def cross_entropy(self, *arguments, **named):
        Deadly.steps += 1
        if Deadly.steps == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.nn.functional.cross_entropy(*arguments, **named)


@app.query()
def identify(message: Message, context: Context) -> Message:
    return honest.identify(message, context)


@app.train()
def fit(message: Message, context: Context) -> Message:
    faults = dict(pair.split("=") for pair in os.environ["FAULTS"].split(",") if pair)
    fault = faults.get(str(honest._client_id(message, context.node_config)))
    if fault == "sit" and message.content["config"]["server-round"] == 3:
        time.sleep(10_000)
    if message.content["config"]["server-round"] != 1:
        fault = None
    if fault == "hang":
        time.sleep(10_000)
    if fault == "raise":
        raise ValueError("out of cheese")
    if fault == "kill":  # in the middle of fit: at the second batch
        training.F = Deadly()
    reply = honest.fit(message, context)
    if fault in ("nan", "shape"):
        arrays = reply.content["arrays"].to_numpy_ndarrays()
        arrays[0] = np.full_like(arrays[0], np.nan) if fault == "nan" else arrays[0][:1]
        reply.content["arrays"] = ArrayRecord(arrays)
    if fault == "examples":
        reply.content["metrics"]["num-examples"] = 10**6
    return reply


if __name__ == "__main__":
    os.environ["FAULTS"] = sys.argv[1]
    import simulate
    from tests import faulty

    sys.exit(simulate.main(sys.argv[2:], faulty.app))
