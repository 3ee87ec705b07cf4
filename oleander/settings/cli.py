"""From the command line to what is to be run: a scenario's TOML file first, then the flags over it.

The flags, their help and their parsing come from dataclasses (tyro); the ranges from their types (``config.validated``).
"""

import argparse
import dataclasses
import difflib
import sys
import tomllib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from oleander.settings.config import SETTINGS, Count, Experiment, validated
from oleander.settings.registry import attack_steps, strategy_steps
from oleander.system.errors import UserError
from oleander.system.foreign import MIB, read_bytes, refusing, shortened

SCENARIOS = Path(__file__).parent.parent.parent / "scenarios"
MOST_BYTES = MIB
"""Of a scenario file."""
STUDY_TABLES = ("figure", "point", "sweep", "include", "repeats")
"""What a scenario file may hold beside settings: ``oleander.settings.plan``."""


@dataclass(frozen=True)
class Flags:
    """Backdoor attacks on federated learning, and defences against them: one run, or a study of many."""

    experiment: Annotated[Experiment, tyro.conf.arg(name="")]
    sweep: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """NAME=VALUE,VALUE…: a run for each value of this setting; given several times, the sweeps multiply."""
    repeats: Count | None = None
    """Runs of each setting, with the seeds seed, seed + 1 … (default: 1, or what the scenario says)."""
    resume: str | None = None
    """Folder of a stopped run that is to go on; it ends with the model that it would have had. Goes with no other flag
    but --actors, --client-cpus and --ray-address. (A stopped study goes on when it is run again.)"""


@dataclass(frozen=True)
class Scenario:
    """A scenario file: settings, and what makes a study of them."""

    experiment: Experiment
    study: dict[str, Any]
    """Its tables among STUDY_TABLES, as they stand in the file."""
    source: str
    """Where it comes from, for messages."""


@dataclass(frozen=True)
class Command:
    """What a command line asks for."""

    scenario: Scenario
    """As it stands in its file; the defaults without one."""
    flags: Flags
    """With the settings of the scenario under them."""
    given: frozenset[str]
    """Names of the settings that stand on the command line."""


RESUMABLE = ("actors", "client_cpus", "ray_address")
"""Settings that change no result, so that a run may go on with others."""


def parse(arguments: list[str]) -> Experiment:
    """The one experiment that these command-line arguments ask for. ``--help`` and unknown flags exit as argparse does.

    Raises:
        UserError: an unknown scenario or setting, a value of the wrong type or out of its range, or a study.
    """
    command = parse_command(arguments)
    flags = command.flags
    asked = [name for name in ("sweep", "repeats", "resume") if getattr(flags, name) not in ((), None)]
    if command.scenario.study or asked:
        what = f"--{asked[0]}" if asked else f"--scenario {command.scenario.source}"
        raise UserError(f"{what}: wanted a single run here; simulate.py runs studies and resumes runs")
    return flags.experiment


def parse_command(arguments: list[str], kind: type[Flags] = Flags) -> Command:
    """All that these command-line arguments ask for, each setting checked by itself; a ``kind`` of Flags may have more of them.

    Raises:
        UserError: an unknown scenario, setting, attack or strategy, or a value of the wrong type or out of its range.
    """
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--scenario", default="")
    asked = finder.parse_known_args(arguments)[0].scenario if "--scenario" in " ".join(arguments) else ""
    scenario = load_scenario_file(asked) if asked else Scenario(Experiment(scenario="custom"), {}, "")
    flags = tyro.cli(
        kind, prog=Path(sys.argv[0]).name, args=arguments, default=kind(scenario.experiment), registry=_REGISTRY,
        config=(tyro.conf.FlagConversionOff,),
    )  # fmt: skip
    settings = dataclasses.asdict(flags.experiment) | {"scenario": scenario.experiment.scenario}
    if flags.repeats is not None and flags.repeats < 1:
        raise UserError(f"--repeats {flags.repeats}: wanted 1 or more")
    words = {word.partition("=")[0].lstrip("-").replace("-", "_") for word in arguments if word.startswith("--")}
    given = frozenset(words & (SETTINGS.keys() - {"scenario", "out"}))
    experiment = validated(settings, "command line")
    attack_steps(experiment)  # a mistyped name is told before anything starts
    strategy_steps(experiment)
    if not (scenario.study or flags.sweep or flags.repeats or flags.resume is not None):  # plan_of asks it of all runs
        check_attackers(scenario.experiment, [experiment], given)
    return Command(scenario, dataclasses.replace(flags, experiment=experiment), given)


ATTACKERS = frozenset({"attack", "malicious", "attack_rounds"})
"""Settings by which a command line can end up with an attack that nobody carries out."""


def check_attackers(scenario: Experiment, experiments: Sequence[Experiment], given: Collection[str]) -> None:
    """Refuse a command line that asks for an attack, and leaves nobody to carry it out in any of its runs.

    A file may ask for just that, as ``clean`` does, which measures what a trigger does by itself.

    Args:
        scenario: as it stands in its file.
        experiments: what the command line makes of it.
        given: settings that the command line gives or sweeps.

    Raises:
        UserError: names the settings, and how to ask for a run without an attacker.
    """
    idle = next((e for e in experiments if e.idle), None)
    if idle is None or scenario.idle or not ATTACKERS & set(given) or any(e.attackers(1) for e in experiments):
        return
    what, wanted = "--malicious 0", "--malicious 1 or more"
    if idle.malicious:
        what, wanted = "--attack-rounds 0", "--attack-rounds 1 or more"
    raise UserError(
        f"--attack {idle.attack} with {what}: nobody would attack; wanted {wanted}, or for the ASR of its trigger without an "
        f"attacker: --scenario clean --attack {idle.attack}"
    )


def known_scenarios() -> dict[str, Path]:
    """Name → file of the scenarios that come with the project."""
    return {path.stem: path for path in sorted(SCENARIOS.glob("*.toml"))}


def load_scenario(name_or_path: str) -> Experiment:
    """The experiment of a scenario in ``scenarios/``, or of a TOML file of the user's (anything that ends in .toml)."""
    return load_scenario_file(name_or_path).experiment


def load_scenario_file(name_or_path: str) -> Scenario:
    """The same with what the file says of a study.

    Raises:
        UserError: an unknown name, a file that cannot be read, or settings that cannot be.
    """
    known = known_scenarios()
    path = Path(name_or_path)
    if name_or_path in known:
        path = known[name_or_path]
    elif path.suffix != ".toml":
        close = difflib.get_close_matches(name_or_path, known, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise UserError(
            f"--scenario {shortened(name_or_path, 200)}: no such scenario{hint}; known: {', '.join(known)}, or PATH.toml"
        )
    content = _read_toml(path)
    study = {name: content.pop(name) for name in STUDY_TABLES if name in content}
    check_names(content, str(path))
    content.setdefault("scenario", path.stem)
    return Scenario(validated(SETTINGS | content, str(path)), study, str(path))


def check_names(settings: dict[str, Any], source: str) -> None:
    """Refuse names that are no settings.

    Raises:
        UserError: names the nearest setting, or all.
    """
    for name in settings.keys() - SETTINGS.keys():
        close = difflib.get_close_matches(name, SETTINGS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(SETTINGS)}"
        raise UserError(f"{source}: {shortened(str(name), 80)} is not a setting; {hint}")


def _read_toml(path: Path) -> dict[str, Any]:
    with refusing(f"--scenario {path}: cannot read the file"):
        content = read_bytes(path, MOST_BYTES)
    with refusing(f"--scenario {path}: not a TOML file"):
        return tomllib.loads(content.decode("utf-8"))


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
