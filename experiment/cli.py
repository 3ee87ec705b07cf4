"""From the command line to an Experiment: a scenario's TOML file first, then the flags over it.

The flags, their help and their parsing come from the dataclass (tyro); the ranges from its types (``config.validated``).
"""

import argparse
import dataclasses
import difflib
import sys
import tomllib
from pathlib import Path
from typing import Any

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from experiment.config import SETTINGS, Experiment, validated
from experiment.errors import UserError

SCENARIOS = Path(__file__).parent.parent / "scenarios"


def parse(arguments: list[str]) -> Experiment:
    """The experiment that these command-line arguments ask for. ``--help`` and unknown flags exit as argparse does.

    Raises:
        UserError: an unknown scenario or setting, or a value of the wrong type or out of its range.
    """
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--scenario", default="")
    asked = finder.parse_known_args(arguments)[0].scenario if "--scenario" in " ".join(arguments) else ""
    base = load_scenario(asked) if asked else Experiment()
    flags = tyro.cli(
        Experiment, prog=Path(sys.argv[0]).name, args=arguments, default=base, registry=_REGISTRY,
        config=(tyro.conf.FlagConversionOff,),
    )  # fmt: skip
    experiment = dataclasses.replace(flags, scenario=base.scenario or "custom")
    return validated(dataclasses.asdict(experiment), "command line")


def known_scenarios() -> dict[str, Path]:
    """Name → file of the scenarios that come with the project."""
    return {path.stem: path for path in sorted(SCENARIOS.glob("*.toml"))}


def load_scenario(name_or_path: str) -> Experiment:
    """The experiment of a scenario in ``scenarios/``, or of a TOML file of the user's (anything that ends in .toml)."""
    known = known_scenarios()
    path = Path(name_or_path)
    if name_or_path in known:
        path = known[name_or_path]
    elif path.suffix != ".toml":
        close = difflib.get_close_matches(name_or_path, known, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise UserError(f"--scenario {name_or_path}: no such scenario{hint}; known: {', '.join(known)}, or PATH.toml")
    settings = _read_toml(path)
    settings.setdefault("scenario", path.stem)
    return validated(SETTINGS | settings, str(path))


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UserError(f"--scenario {path}: cannot read the file: {reason}") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"--scenario {path}: not a TOML file: {error}") from None
    for name in settings.keys() - SETTINGS.keys():
        close = difflib.get_close_matches(name, SETTINGS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(SETTINGS)}"
        raise UserError(f"{path}: {name} is not a setting; {hint}")
    return settings


_REGISTRY = ConstructorRegistry()


@_REGISTRY.primitive_rule
def _lower_case_booleans(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[bool] | None:
    """Flags take true and false as TOML writes them (tyro's own rule wants True and False); a bare flag means true."""
    if info.type is not bool:
        return None
    return PrimitiveConstructorSpec(
        nargs="*",
        metavar="{true,false}",
        instance_from_str=_boolean,
        is_instance=lambda value: isinstance(value, bool),
        str_from_instance=lambda value: ["true" if value else "false"],
        choices=("true", "false"),
    )


def _boolean(words: list[str]) -> bool:
    if len(words) > 1:
        raise ValueError(f"wanted true or false, not {' '.join(words)}")
    return words != ["false"]
