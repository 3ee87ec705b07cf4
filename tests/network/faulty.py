"""``python -m tests.network.faulty FAULT [flags of python -m clients]``: a client that misbehaves in round 1, or lies before it."""

import json
import os
import signal
import sys
import time

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message
from flwr.clientapp import ClientApp

from clients import app as honest
from oleander.network import client
from oleander.network.internals import FleetHttpClient
from oleander.transport.attackers import MEMORY, memory_record

MEMORIES = {
    "memory shape": np.zeros((3, 2, 2), np.float32),
    "memory nan": np.full((3, 32, 32), np.nan, np.float32),
    "memory oversize": np.random.default_rng(0).standard_normal((3, 1024, 2048)).astype(np.float32),
}
"""What it says that attackers remember, where the attack remembers a picture for a trigger."""
FAULT = sys.argv[1] if len(sys.argv) > 1 else ""
app = ClientApp()


@app.query()
def identify(message: Message, context: Context) -> Message:
    """The honest answer; with ``plugins``, copies of other files than it has."""
    reply = honest.identify(message, context)
    if FAULT == "plugins":
        said = json.loads(reply.content["identity"]["plugins"])
        reply.content["identity"]["plugins"] = json.dumps(dict.fromkeys(said, "ab" * 32))
    return reply


@app.train()
def fit(message: Message, context: Context) -> Message:
    """The honest answer, spoilt in round 1."""
    if message.content["config"]["server-round"] != 1:
        return honest.fit(message, context)
    if FAULT == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if FAULT == "hang":
        time.sleep(10_000)
    if FAULT == "raise":
        raise ValueError("out of cheese")
    if FAULT == "silent":  # announces its reply, and never sends the parts
        FleetHttpClient.PushObject = lambda fleet, request: time.sleep(10_000)
    if FAULT == "impersonate":
        FleetHttpClient.PushMessages = in_anothers_name
    if FAULT == "bomb":
        Array.slice_array = many_times
    reply = honest.fit(message, context)
    arrays = reply.content["arrays"].to_numpy_ndarrays()
    if FAULT == "nan":
        arrays[0] = np.full_like(arrays[0], np.nan)
    if FAULT == "shape":
        arrays[0] = arrays[0][:7]
    if FAULT == "oversize":
        arrays[0] = np.random.default_rng(0).standard_normal(3 * len(arrays[0])).astype(np.float32)
    reply.content["arrays"] = ArrayRecord(arrays)
    if FAULT in MEMORIES:
        reply.content[MEMORY] = memory_record({"trigger": MEMORIES[FAULT]})
    return reply


slices, push_messages = Array.slice_array, FleetHttpClient.PushMessages


def many_times(array: Array) -> list:
    """An array that names its first part a thousand times: small on the wire, huge when it is put together."""
    parts = slices(array)
    return parts[:1] * 1000 if len(parts) > 1 else parts


def in_anothers_name(fleet: FleetHttpClient, request):
    """A reply that says it is another node's."""
    for message in request.messages_list:
        message.metadata.src_node_id += 1
    return push_messages(fleet, request)


if __name__ == "__main__":
    honest.app = app
    sys.exit(client.main(sys.argv[2:]))
