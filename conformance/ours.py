"""Our own rules behind the runner's function."""

from typing import Any

import numpy as np

from oleander.learning.parameters import Layout
from strategies import aggregate as strategy

NAMES = {
    "krum": ("krum", {"f": "assumed_malicious"}),
    "multi_krum": ("multi_krum", {"f": "assumed_malicious", "m": "multi_krum_m"}),
    "trimmed_mean": ("trimmed_mean", {"trim": "assumed_malicious"}),
    "nnm": ("nnm+fedavg", {"f": "assumed_malicious"}),
    "rlr": ("fedavg+rlr", {"threshold": "rlr_threshold"}),
    "bulyan": ("bulyan", {"f": "assumed_malicious", "theta": "bulyan_theta"}),
    "clip": ("clip+fedavg", {"bound": "clip_norm"}),
    "centred_clip": ("centred_clip", {"tau": "centred_clip_tau", "iterations": "centred_clip_iterations"}),
    "rfa": ("rfa", {"iterations": "rfa_iterations", "nu": "rfa_nu"}),
    "foolsgold": ("foolsgold", {"kappa": "foolsgold_kappa"}),
    "dnc": ("dnc", {"f": "assumed_malicious", "c": "dnc_c"}),
    "signguard": ("signguard", {"share": "signguard_share"}),
}
"""Rule of the vectors → strategy and names of its settings; others have the same name and no settings."""


def aggregate(rule: str, updates: Any, examples: Any, settings: dict[str, Any], more: dict[str, Any]) -> Any:
    """As ``runner.py`` asks for it."""
    name, named = NAMES.get(rule, (rule, {}))
    given: dict[str, Any] = {named[key]: _number(value) for key, value in settings.items()}
    if rule == "nnm":
        examples = None  # the mean behind it is a plain one
    d = updates.shape[1]
    first, end = more["output_layer"] or (0, d)
    root = more["server_update"] if len(more["server_update"]) else None
    names = ("body.weight", "linear.weight") if first else ("linear.weight",)
    shapes = ((first,), (1, end - first)) if first else ((1, d),)
    return strategy(
        name, updates, num_examples=examples, layout=Layout(names, shapes, (True,) * len(names)), root=root,
        start=more["global_model"], **given,
    ).delta.astype(np.float64)  # fmt: skip


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, str) and value != "median" else value
