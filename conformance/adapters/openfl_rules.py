"""OpenFL's aggregation functions."""

from types import SimpleNamespace
from typing import Any

PACKAGE = "openfl==1.9"
BESIDE = ("dynaconf", "flatten_json", "tensorboardX")
TITLE = "OpenFL 1.9"


def aggregate(rule: str, updates: Any, examples: Any, settings: dict[str, Any], more: dict[str, Any]) -> Any:
    """As ``runner.py`` asks for it."""
    from openfl.interface.aggregation_functions import Median, WeightedAverage
    from openfl.interface.aggregation_functions.geometric_median import geometric_median

    shares = examples / examples.sum()
    if rule == "rfa":
        return geometric_median(
            list(updates), shares, maxiter=settings["iterations"], eps=float(settings["nu"]), ftol=0
        )
    functions = {"fedavg": WeightedAverage, "median": Median}
    if rule not in functions:
        raise NotImplementedError(rule)
    tensors = [SimpleNamespace(tensor=row, weight=share) for row, share in zip(updates, shares, strict=True)]
    return functions[rule]().call(tensors, None, "t", 0, ())
