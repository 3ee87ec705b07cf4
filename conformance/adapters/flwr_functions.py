"""Flower's older generation: the functions behind ``flwr.server.strategy``. They are given updates where they expect models."""

from typing import Any

from flwr.server.strategy import aggregate as functions

PACKAGE = "flwr"
TITLE = "Flower, flwr.server.strategy"


def aggregate(rule: str, updates: Any, examples: Any, settings: dict[str, Any], more: dict[str, Any]) -> Any:
    """As ``runner.py`` asks for it."""
    results = [([row], int(count)) for row, count in zip(updates, examples, strict=True)]
    n, f = len(updates), settings.get("f", 0)
    if rule == "fedavg":
        return functions.aggregate(results)[0]
    if rule == "krum":
        return functions.aggregate_krum(results, f, 0)[0]
    if rule == "multi_krum":
        return functions.aggregate_krum(results, f, settings["m"])[0]
    if rule == "median":
        return functions.aggregate_median(results)[0]
    if rule == "trimmed_mean":
        return functions.aggregate_trimmed_avg(results, (settings["trim"] + 0.25) / n)[0]
    if rule == "bulyan" and settings["theta"] == n - 2 * f:
        return functions.aggregate_bulyan(results, f, functions.aggregate_krum, to_keep=0)[0]
    raise NotImplementedError(rule)
