"""FedML's defences. Its package imports dozens of services on the way in, so only its defence modules are imported."""

import sys
import types
from collections import OrderedDict
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

PACKAGE = "fedml==0.9.6"
TITLE = "FedML 0.9.6"


def _package() -> None:
    """``fedml`` without what its ``__init__`` starts."""
    if "fedml" in sys.modules:
        return
    spec = find_spec("fedml")
    if spec is None or spec.origin is None:
        raise ImportError("fedml is not installed")
    root = Path(spec.origin).parent
    for name in ("", ".core", ".core.security", ".core.security.defense", ".core.security.common"):
        module = types.ModuleType("fedml" + name)
        module.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
        sys.modules["fedml" + name] = module
    sys.modules["fedml"].device = SimpleNamespace(get_device=lambda _: "cpu")  # type: ignore[attr-defined]


def aggregate(rule: str, updates: Any, examples: Any, settings: dict[str, Any], more: dict[str, Any]) -> Any:
    """As ``runner.py`` asks for it."""
    _package()
    from fedml.core.security.defense import (
        RFA_defense,
        bulyan_defense,
        coordinate_wise_median_defense,
        coordinate_wise_trimmed_mean_defense,
        foolsgold_defense,
        krum_defense,
        norm_diff_clipping_defense,
        robust_learning_rate_defense,
    )

    n, f = len(updates), settings.get("f", 0)
    given = [(int(c), _model(row, more["output_layer"])) for row, c in zip(updates, examples, strict=True)]
    if rule in ("krum", "multi_krum"):
        config = SimpleNamespace(byzantine_client_num=f, krum_param_m=settings.get("m", 1))
        return _mean(krum_defense.KrumDefense(config).defend_before_aggregation(given))
    if rule == "bulyan" and settings["theta"] == n - 2 * f:
        config = SimpleNamespace(byzantine_client_num=f, client_num_per_round=n)
        return _flat(bulyan_defense.BulyanDefense(config).run(given))
    if rule == "median":
        return _flat(coordinate_wise_median_defense.CoordinateWiseMedianDefense(None).defend_on_aggregation(given))
    if rule == "trimmed_mean":
        config = SimpleNamespace(beta=(settings["trim"] + 0.25) / n)
        trimmed = coordinate_wise_trimmed_mean_defense.CoordinateWiseTrimmedMeanDefense(config)
        return _mean(trimmed.defend_before_aggregation(given))
    if rule == "foolsgold":
        return _mean(foolsgold_defense.FoolsGoldDefense(None).defend_before_aggregation(given))
    if rule == "rfa":
        return _flat(RFA_defense.RFADefense(None).defend_on_aggregation(given))
    if rule == "clip" and settings["bound"] != "median":
        start = OrderedDict((name, torch.zeros_like(value)) for name, value in given[0][1].items())
        config = SimpleNamespace(norm_bound=float(settings["bound"]))
        return _mean(norm_diff_clipping_defense.NormDiffClippingDefense(config).defend_before_aggregation(given, start))
    if rule == "rlr":
        config = SimpleNamespace(robust_threshold=settings["threshold"])
        return _flat(robust_learning_rate_defense.RobustLearningRateDefense(config).run(given))
    raise NotImplementedError(rule)


def _model(row: Any, output_layer: Any) -> "OrderedDict[str, torch.Tensor]":
    """Its FoolsGold looks at the last tensor but one."""
    first, end = output_layer or (0, len(row))
    parts = OrderedDict(body=row[:first], output=row[first:end], bias=row[end:])
    return OrderedDict((name, torch.tensor(part)) for name, part in parts.items())


def _flat(model: "OrderedDict[str, torch.Tensor]") -> Any:
    return torch.cat([part.flatten().double() for part in model.values()]).numpy()


def _mean(given: Any) -> Any:
    """Its own FedAvg behind a defence: the mean, weighted with what the defence left as numbers of examples."""
    total = sum(count for count, _ in given)
    return sum(_flat(model) * (count / total) for count, model in given)
