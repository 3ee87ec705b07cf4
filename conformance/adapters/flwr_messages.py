"""Flower's newer generation, ``flwr.serverapp.strategy``: what its strategies make of the clients' replies."""

from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Message, Metadata, MetricRecord, RecordDict
from flwr.app.message import make_message
from flwr.serverapp import strategy as strategies

PACKAGE = "flwr"
TITLE = "Flower, flwr.serverapp.strategy"


def aggregate(rule: str, updates: Any, examples: Any, settings: dict[str, Any], more: dict[str, Any]) -> Any:
    """As ``runner.py`` asks for it."""
    n, f = len(updates), settings.get("f", 0)
    if rule == "fedavg":
        strategy = strategies.FedAvg()
    elif rule == "krum":
        strategy = strategies.Krum(num_malicious_nodes=f)
    elif rule == "multi_krum":
        strategy = strategies.MultiKrum(num_malicious_nodes=f, num_nodes_to_select=settings["m"])
    elif rule == "median":
        strategy = strategies.FedMedian()
    elif rule == "trimmed_mean":
        strategy = strategies.FedTrimmedAvg(beta=(settings["trim"] + 0.25) / n)
    elif rule == "bulyan" and settings["theta"] == n - 2 * f:
        strategy = strategies.Bulyan(num_malicious_nodes=f)
    else:
        raise NotImplementedError(rule)
    replies = [_reply(k, row, int(count)) for k, (row, count) in enumerate(zip(updates, examples, strict=True))]
    arrays, _ = strategy.aggregate_train(1, replies)
    if arrays is None:
        raise ValueError("no aggregate")
    return arrays.to_numpy_ndarrays()[0]


def _reply(number: int, row: Any, examples: int) -> Message:
    content = RecordDict({"arrays": ArrayRecord([np.array(row)]), "metrics": MetricRecord({"num-examples": examples})})
    about = Metadata(run_id=1, message_id=str(number), src_node_id=number + 1, dst_node_id=0, reply_to_message_id="asked",
                     group_id="", created_at=1.0, ttl=1e9, message_type="train")  # fmt: skip
    return make_message(metadata=about, content=content)
