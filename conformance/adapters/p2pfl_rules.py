"""p2pfl's aggregators, given stand-ins for its models: they ask them for arrays and numbers of examples, and nothing else."""

from types import SimpleNamespace
from typing import Any

PACKAGE = "p2pfl==0.4.4"
BESIDE = ("opendp", "deprecated", "wrapt")
TITLE = "p2pfl 0.4.4"


def aggregate(rule: str, updates: Any, examples: Any, settings: dict[str, Any], more: dict[str, Any]) -> Any:
    """As ``runner.py`` asks for it."""
    from p2pfl.settings import Settings

    Settings.general.DISABLE_RAY = True  # its log would start one
    from p2pfl.learning.aggregators.fedavg import FedAvg
    from p2pfl.learning.aggregators.fedmedian import FedMedian
    from p2pfl.learning.aggregators.krum import Krum

    if rule == "krum" and settings["f"] != 0:
        raise NotImplementedError("its Krum has no f")
    aggregators = {"fedavg": FedAvg, "median": FedMedian, "krum": Krum}
    if rule not in aggregators:
        raise NotImplementedError(rule)
    models = [_model(row, int(count), k) for k, (row, count) in enumerate(zip(updates, examples, strict=True))]
    aggregator = aggregators[rule]()
    aggregator.set_addr("here")
    return aggregator.aggregate(models).get_parameters()[0]


def _model(row: Any, examples: int, number: int) -> Any:
    return SimpleNamespace(
        get_parameters=lambda: [row], get_num_samples=lambda: examples, get_contributors=lambda: [str(number)],
        build_copy=lambda params, **_: SimpleNamespace(get_parameters=lambda: params),
    )  # fmt: skip
