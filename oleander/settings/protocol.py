"""The settings that a dataset is shown with: below a scenario's and the command line's, above the defaults.

A dataset's file may hold them as a literal::

    PROTOCOL = {"model": "cnn", "lr": 0.1, "rounds": 10}

It is read without importing the file, as plug-ins' settings are.
"""

import ast
import functools
from collections.abc import Mapping
from typing import Any

from oleander.settings.config import SETTINGS
from oleander.settings.declared import AUTO, DATASETS, Declaration, declaration, names_in, source_in
from oleander.settings.steps import short
from oleander.settings.words import nearest
from oleander.system.errors import UserError

NAME = "PROTOCOL"
NEVER = ("scenario", "description", "dataset", "data_dir", "out", "seed")
"""Settings that no dataset has a say in."""


def whole(said: Mapping[str, Any], auto: str = "auto") -> dict[str, Any]:
    """Every setting, flat: what was said, over its dataset's protocol, over the defaults.

    Args:
        said: settings by name, of a file and of a command line.
        auto: what ``--dataset auto`` stands for, where that is known by now.

    Raises:
        UserError: a protocol of the user's own that is none.
    """
    dataset = said.get("dataset", AUTO)
    dataset = auto if dataset == AUTO else dataset
    return SETTINGS | protocol_of(dataset) | dict(said) | {"dataset": dataset}


def protocol_of(dataset: Any) -> dict[str, Any]:
    """The settings that this dataset is shown with; of most, none but the defaults.

    Raises:
        UserError: names the file, what is amiss, and the rule.
    """
    if not isinstance(dataset, str):
        return {}
    name = source_in(dataset)[0] or short(dataset)
    if name not in names_in(DATASETS):
        return {}
    return protocol_in(declaration(DATASETS, name), f"--dataset {dataset}")


def protocol_in(found: Declaration, asked: str = "") -> dict[str, Any]:
    """The same of a dataset by what its file declares, which need not be in use; raises as ``protocol_of``."""
    return dict(_protocol_in(found.source, asked or f"--dataset {found.step or found.name}", tuple(SETTINGS)))


@functools.cache
def _protocol_in(source: str, asked: str, known: tuple[str, ...]) -> dict[str, Any]:
    for node in ast.parse(source).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == NAME for target in targets):
            return _checked(node.value, asked, known)  # type: ignore[attr-defined]
    return {}


def _checked(value: ast.expr, asked: str, known: tuple[str, ...]) -> dict[str, Any]:
    try:
        found = ast.literal_eval(value)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UserError(f"{asked}: {NAME} is {ast.unparse(value)[:80]}; wanted a dict of settings, written out")
    for name in found:
        if name not in known or name in NEVER:
            close = nearest(str(name), [n for n in known if n not in NEVER])
            hint = f"; did you mean {close}?" if close else ""
            raise UserError(f"{asked}: {NAME} has {name!r}, which is no setting of a protocol{hint}")
    return found
