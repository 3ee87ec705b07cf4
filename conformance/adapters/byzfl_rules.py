"""ByzFL, of one of Krum's and NNM's groups."""

from typing import Any

import byzfl

PACKAGE = "byzfl==0.0.11"
TITLE = "ByzFL 0.0.11"


def aggregate(rule: str, updates: Any, examples: Any, settings: dict[str, Any], more: dict[str, Any]) -> Any:
    """As ``runner.py`` asks for it."""
    n, f, rows = len(updates), settings.get("f", 0), updates.copy()
    if rule == "fedavg" and len(set(examples.tolist())) == 1:
        return byzfl.Average()(rows)
    if rule == "krum":
        return byzfl.Krum(f)(rows)
    if rule == "multi_krum" and settings["m"] == n - f:
        return byzfl.MultiKrum(f)(rows)
    if rule == "median":
        return byzfl.Median()(rows)
    if rule == "trimmed_mean":
        return byzfl.TrMean(settings["trim"])(rows)
    if rule == "nnm":
        return byzfl.Average()(byzfl.NNM(f)(rows))
    if rule == "clip" and settings["bound"] != "median" and len(set(examples.tolist())) == 1:
        return byzfl.Average()(byzfl.Clipping(float(settings["bound"]))(rows))
    if rule == "centred_clip":
        return byzfl.CenteredClipping(L=settings["iterations"], tau=float(settings["tau"]))(rows)
    if rule == "rfa" and len(set(examples.tolist())) == 1:
        return byzfl.GeometricMedian(nu=float(settings["nu"]), T=settings["iterations"])(rows)
    raise NotImplementedError(rule)
