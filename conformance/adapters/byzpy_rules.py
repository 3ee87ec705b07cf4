"""ByzPy."""

from typing import Any

import torch

PACKAGE = "byzpy==0.1.4"
TITLE = "ByzPy 0.1.4"


def aggregate(rule: str, updates: Any, examples: Any, settings: dict[str, Any], more: dict[str, Any]) -> Any:
    """As ``runner.py`` asks for it."""
    from byzpy.aggregators.coordinate_wise.median import CoordinateWiseMedian
    from byzpy.aggregators.coordinate_wise.trimmed_mean import CoordinateWiseTrimmedMean
    from byzpy.aggregators.geometric_wise.krum import Krum, MultiKrum
    from byzpy.aggregators.norm_wise.center_clipping import CenteredClipping
    from byzpy.pre_aggregators.nnm import NearestNeighborMixing

    f, rows = settings.get("f", 0), [torch.tensor(row) for row in updates]
    if rule == "krum":
        return Krum(f).aggregate(rows)
    if rule == "multi_krum":
        return MultiKrum(f, settings["m"]).aggregate(rows)
    if rule == "median":
        return CoordinateWiseMedian().aggregate(rows)
    if rule == "trimmed_mean":
        return CoordinateWiseTrimmedMean(settings["trim"]).aggregate(rows)
    if rule == "nnm":
        mixed = NearestNeighborMixing(f).pre_aggregate(rows)
        return sum(mixed) / len(mixed)
    if rule == "centred_clip":
        return CenteredClipping(c_tau=float(settings["tau"]), M=settings["iterations"], init="zero").aggregate(rows)
    raise NotImplementedError(rule)
