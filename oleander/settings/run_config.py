"""The run config of ``flwr run . -c "scenario='dba' strategy='krum' rounds=3"`` as settings.

Flower takes no key that pyproject.toml does not declare, so each shared setting stands there, as "", which is: not given. What
plug-ins declare for themselves comes as flags, ``flags='--strategy clip --clip-norm 2'``, so that a new plug-in needs no line there.
"""

import contextlib
import io
import re
import shlex
from collections.abc import Mapping
from typing import Any

from oleander.settings.cli import names_given, parse
from oleander.settings.config import SETTINGS, SHARED, Experiment, checked, shown_value
from oleander.system.errors import UserError
from oleander.system.foreign import plain

SOURCE = "run config"
KEYS = (*SHARED, "flags", "network")
"""What it may hold; ``network`` is what ``server.py --stock`` tells."""


def experiment_of(config: Mapping[str, Any], auto: str = "auto") -> Experiment:
    """The experiment that the keys ask for: the scenario first, then the flags and the other keys over it.

    ``auto`` is what the dataset of that name stands for, where that is known by now.

    Raises:
        UserError: a value of the wrong type or out of its range, a setting that stands twice, or flags that are none.
    """
    scenario, given = str(config["scenario"]), {name: value for name, value in config.items() if value != ""}
    keys = {name: value for name, value in given.items() if name in SHARED and name != "scenario"}
    checked(SETTINGS | keys, SOURCE)  # of the types that they have: as flags all would be text
    flags = _words(str(config["flags"]))
    for name in sorted(keys.keys() & names_given(flags)):
        raise UserError(
            f"{SOURCE}: {name} = {keys[name]!r}, and again in flags = {config['flags']!r}; wanted one of them"
        )
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            words = [f"--{name.replace('_', '-')}={shown_value(value)}" for name, value in keys.items()]
            return parse([*(["--scenario", scenario] if scenario else []), *words, *flags], auto)
    except SystemExit:  # --help, or what is no flag
        told = " ".join(re.sub(r"[\u2500-\u257f]", " ", said.getvalue()).split())
        raise UserError(f"{SOURCE}: flags = {config['flags']!r}: {plain(told)}") from None


def _words(flags: str) -> list[str]:
    try:
        return shlex.split(flags)
    except ValueError as error:
        raise UserError(f"{SOURCE}: flags = {flags!r}: {error}") from None
