"""The flags of a command line as one class for tyro: shared settings in groups, then those of plug-ins, a group each.

``--help`` names every shared setting and, of the plug-ins' own, those of the attack and the strategy that the same line (or its
scenario) names; parsing knows them all, so that one that is not used can be refused by its owner's name.
"""

import ast
import dataclasses
import functools
import inspect
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Annotated, Any, get_type_hints

import tyro

from oleander.settings.config import Experiment
from oleander.settings.declared import FLAGS, PACKAGES, declaration, declared, in_use, names_in

GROUPS: dict[str, tuple[str, ...]] = {
    "run": ("scenario", "description", "seed", "rounds"),
    "data and model": (
        "dataset",
        "data_dir",
        "weights",
        "partition",
        "samples_per_client",
        "iid_rate",
        "dirichlet_alpha",
        "shards_per_client",
        "classes_per_client",
    ),
    "network": ("clients", "clients_per_round", "min_clients", "round_timeout", "on_bad_reply"),
    "training": (
        "model",
        "norm",
        "local_epochs",
        "batch_size",
        "lr",
        "momentum",
        "weight_decay",
        "augment",
        "precision",
    ),
    "attack": ("attack", "malicious", "attackers", "poison_rate", "target", "attack_rounds"),
    "defence": ("strategy", "assumed_malicious", "repair", "root_samples"),
    "evaluation": ("evaluate", "evaluate_asr", "evaluate_images", "no_cache"),
    "engine": ("actors", "runs_at_once", "client_cpus", "client_gpus", "client_threads", "cuda_graphs", "ray_address"),
    "output": ("out", "keep", "pages"),
}
"""Every shared setting, once, as ``--help`` groups them."""


def flags_class(kind: type, default: Mapping[str, Any], shown: Experiment | None) -> type:
    """A class for ``tyro.cli``: the fields of ``kind`` but ``experiment``, and every setting as a flag.

    Args:
        kind: a dataclass with a field ``experiment`` and fields of its own.
        default: the settings to start from, flat.
        shown: whose plug-ins' settings ``--help`` shows; None for all.
    """
    extra = [f for f in dataclasses.fields(kind) if f.name != "experiment"]
    types = get_type_hints(kind, include_extras=True)  # a module may write its annotations as strings
    fields = [_field(f.name, types[f.name], f.default, _docs(kind)[f.name]) for f in extra]
    shared = {f.name: f for f in dataclasses.fields(Experiment)}
    for title, names in GROUPS.items():
        group = [_field(name, shared[name].type, default[name], _docs(Experiment)[name]) for name in names]
        fields.append(_group(title, None, group))
    used = in_use(*(getattr(shown, flag) for flag in FLAGS.values())) if shown else declared()
    for plugin in dict.fromkeys(setting.plugin for setting in declared().values()):
        own = [setting for setting in declared().values() if setting.plugin == plugin]
        group = [_field(s.name, s.type, default[s.name], s.help, hidden=s.hidden or s.name not in used) for s in own]
        fields.append(_group(_free(plugin, [name for name, *_ in fields]), _summary(plugin), group))
    made = dataclasses.make_dataclass(kind.__name__, fields, frozen=True)
    made.__doc__ = kind.__doc__
    return made


def settings_in(parsed: Any) -> dict[str, Any]:
    """Name → value of every setting in an object of a ``flags_class``."""
    return {
        name: value
        for group in vars(parsed).values() if dataclasses.is_dataclass(group)
        for name, value in vars(group).items()
    }  # fmt: skip


def _field(name: str, kind: Any, default: Any, words: str, *, hidden: bool = False) -> tuple[str, Any, Any]:
    made = Annotated[kind, tyro.conf.arg(help=words)]
    return name, Annotated[made, tyro.conf.Suppress] if hidden else made, field(default=default)


def _group(name: str, words: str | None, fields: list[tuple[str, Any, Any]]) -> tuple[str, Any, Any]:
    key = name.replace(" ", "_")
    made = dataclasses.make_dataclass(key, fields, frozen=True)
    made.__doc__ = words
    return key, made, field(default_factory=made)


def _free(name: str, taken: Sequence[str]) -> str:
    """The name of a group: the plug-in's, or where another group has it, a longer one."""
    return _free(f"{name}_plugin", taken) if name.replace(" ", "_") in taken else name


def _summary(plugin: str) -> str:
    return next(declaration(package, plugin).summary for package in PACKAGES if plugin in names_in(package))


def docs_of(kind: type) -> dict[str, str]:
    """Name → what each field of a dataclass is, by the docstring below it."""
    return _docs(kind)


def docs_of_settings() -> dict[str, str]:
    """Name → what a shared setting is."""
    return _docs(Experiment)


@functools.cache
def _docs(kind: type) -> dict[str, str]:
    """Name → the docstring below each field of a dataclass and of those it is built on."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        assert isinstance(body, ast.ClassDef)
        for statement, after in zip(body.body, [*body.body[1:], None], strict=True):
            if (
                isinstance(statement, ast.AnnAssign)
                and isinstance(after, ast.Expr)
                and isinstance(statement.target, ast.Name)
            ):
                found[statement.target.id] = " ".join(str(ast.literal_eval(after.value)).split())
    return found
