"""From the command line to what is to be run: a scenario's TOML file first, then the flags over it.

The flags, their help and their parsing come from dataclasses (tyro); the ranges from their types (``config.validated``).
"""

import argparse
import codecs
import dataclasses
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, get_type_hints

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from oleander.settings import outside
from oleander.settings.config import SETTINGS, SHARED, Experiment, checked, shown_value, validated
from oleander.settings.declared import FLAGS, PACKAGES, declared, has_outside_steps, is_built_in, names_in, users_of
from oleander.settings.described import true_words
from oleander.settings.help import flags_class, settings_in
from oleander.settings.kinds import has_trigger
from oleander.settings.protocol import whole
from oleander.settings.ranges import Count
from oleander.settings.registry import attack_steps, dataset_name, model_name, repair_steps, strategy_steps
from oleander.settings.words import near, nearest, parsed
from oleander.system import itself
from oleander.system.errors import UserError
from oleander.system.files import file_name
from oleander.system.foreign import MIB, read_bytes, refusing, shortened

SCENARIOS = itself.ROOT / "scenarios"
MOST_BYTES = MIB
"""Of a scenario file."""
LONGEST_VALUE = 4096
"""Characters of a setting that a record says and nobody here knows."""
STUDY_TABLES = ("figure", "point", "sweep", "include", "repeats")
"""What a scenario file may hold beside settings: ``oleander.settings.plan``."""


@dataclass(frozen=True)
class Flags:
    """Backdoor attacks on federated learning, and defences against them: one run, or a study of many."""

    part: ClassVar[itself.Part] = "simulate"
    """Which of the commands' flags these are."""
    experiment: Experiment
    sweep: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """NAME=VALUE,VALUE…: a run for each value of this setting; given several times, the sweeps multiply."""
    repeats: Count | None = None
    """Runs of each setting, with the seeds seed, seed + 1 … (default: 1, or what the scenario says)."""
    resume: str | None = None
    """Folder of a stopped run that is to go on; it ends with the model that it would have had. Goes with no other flag
    but --actors, --client-cpus and --ray-address. (A stopped study goes on when it is run again.)"""
    report: str | None = None
    """Folders of runs, of studies, or that hold some: figures, page and tables of what is finished, anew from the records; of several
    together into a new folder (--out, default: runs/report-<time>). Goes with no other flag."""
    dry_run: bool = False
    """Say what would be run, about how long it would take and how much memory; run nothing, and write nothing."""
    version: bool = False
    """Say the versions of this program and of what its results depend on."""


@dataclass(frozen=True)
class Scenario:
    """A scenario file: settings, and what makes a study of them."""

    said: dict[str, Any]
    """The settings that the file states, flat, those that the experiment below has no use for among them: a study's runs may."""
    study: dict[str, Any]
    """Its tables among STUDY_TABLES, as they stand in the file."""
    source: str
    """Where it comes from, for messages."""

    auto: str = "auto"
    """What ``--dataset auto`` stands for, where that is known by now."""

    @property
    def experiment(self) -> Experiment:
        """What it is without its tables."""
        return Experiment.of(whole(self.said, self.auto))


@dataclass(frozen=True)
class Command:
    """What a command line asks for."""

    scenario: Scenario
    """As it stands in its file; the defaults without one."""
    flags: Flags
    """With the settings of the scenario under them."""
    given: dict[str, Any]
    """The settings that stand on the command line, those that its experiment has no use for among them."""


BESIDES = ("sweep", "repeats", "resume", "report", "dry_run", "version")
"""Flags that ask for something else than a run of one experiment."""
RESUMABLE = ("actors", "client_cpus", "ray_address")
"""Settings that change no result, so that a run may go on with others."""


def parse(arguments: list[str], auto: str = "auto") -> Experiment:
    """The one experiment that these command-line arguments ask for; ``auto`` as ``parse_command`` takes it.

    ``--help`` and unknown flags exit as argparse does.

    Raises:
        UserError: an unknown scenario or setting, a value of the wrong type or out of its range, or a study.
    """
    command = parse_command(arguments, auto=auto)
    flags = command.flags
    asked = [name for name in BESIDES if getattr(flags, name)]
    if command.scenario.study or asked:
        what = f"--{asked[0].replace('_', '-')}" if asked else f"--scenario {command.scenario.source}"
        raise UserError(f"{what}: wanted a single run here; {itself.command()} runs studies and resumes runs")
    return flags.experiment


def parse_command(arguments: list[str], kind: type[Flags] = Flags, auto: str = "auto") -> Command:
    """All that these command-line arguments ask for, each setting checked by itself.

    Args:
        arguments: the command line.
        kind: of Flags; it may have more of them.
        auto: what ``--dataset auto`` stands for, where that is known by now: a dataset brings settings of its own with it.

    Raises:
        UserError: an unknown scenario, setting, attack or strategy, or a value of the wrong type or out of its range.
    """
    outside.forget()  # what a command line before this one had asked for
    for package, name in FLAGS.items():
        for value in (_word_after(arguments, name), *_swept(arguments, name)):
            outside.use(package, value)
    asked = _word_after(arguments, "scenario")
    start = Scenario({"scenario": "custom"}, {}, "", auto)
    scenario = load_scenario_file(asked, auto) if asked or _is_given(arguments, "scenario") else start
    dataset = _word_after(arguments, "dataset")
    under = whole(scenario.said | ({"dataset": dataset} if dataset else {}), auto)
    given = names_given(arguments) - {"scenario", "out"}
    shown = scenario.experiment.changed(**{name: _word_after(arguments, name) for name in given & set(FLAGS.values())})
    prog = itself.command(kind.part)
    told: Any = parsed(arguments, _kinds(kind), prog, lambda: tyro.cli(
        flags_class(kind, under, shown if {"-h", "--help"} & set(arguments) else None),
        prog=prog, description=_about(kind), args=arguments, registry=_REGISTRY,
        config=(
            tyro.conf.FlagConversionOff, tyro.conf.OmitArgPrefixes,
            tyro.conf.HelptextFromCommentsOff,  # every field has its help; looking for it in the source is half of the time
        ),
    ), _meant)  # fmt: skip
    settings = settings_in(told) | {"scenario": scenario.experiment.scenario}
    settings["dataset"] = auto if settings["dataset"] == "auto" else settings["dataset"]
    own = {f.name: getattr(told, f.name) for f in dataclasses.fields(kind) if f.name != "experiment"}
    if own["repeats"] is not None and own["repeats"] < 1:
        raise UserError(f"--repeats {own['repeats']}: wanted 1 or more")
    flags = kind(experiment=validated(settings, "command line"), **own)
    return as_a_whole(scenario, flags, {name: settings[name] for name in given})


def as_a_whole(scenario: Scenario, flags: Flags, given: dict[str, Any]) -> Command:
    """A command of settings that were each checked by itself, now checked together; a study's, when it is planned.

    Args:
        scenario: as it stands in its file.
        flags: with the settings of the scenario under them.
        given: the settings that go over the scenario's.

    Raises:
        UserError: an unknown attack, strategy, model or dataset, or settings that do not go together.
    """
    attack_steps(flags.experiment)  # a mistyped name is told before anything starts
    strategy_steps(flags.experiment)
    model_name(flags.experiment)
    dataset_name(flags.experiment)
    repair_steps(flags.experiment)
    told = true_words(flags.experiment.description, given, [flags.experiment.dataset])
    flags = dataclasses.replace(flags, experiment=flags.experiment.changed(description=told))
    command = Command(scenario, flags, given)
    if not (scenario.study or flags.sweep or flags.repeats or flags.resume is not None):  # plan_of asks it of all runs
        check_rounds([flags.experiment], given)
        check_attackers(scenario.experiment, [flags.experiment], given)
        check_used(command.given, [flags.experiment])
    return command


def _kinds(kind: type[Flags]) -> dict[str, Any]:
    """Name → type of every flag."""
    own = get_type_hints(kind, include_extras=True)
    shared = {f.name: f.type for f in dataclasses.fields(Experiment) if f.name in SHARED}
    return (
        {f.name: own[f.name] for f in dataclasses.fields(kind) if f.name != "experiment"}
        | shared
        | {name: setting.type for name, setting in declared().items()}
    )


def _meant(word: str) -> str:
    """The flag that a word without one was probably to have."""
    if word in ("list", "help", "version", "resume", "report", "dry-run", "dry_run"):
        return f"--{word.replace('_', '-')}"
    if word in known_scenarios() or word.endswith(".toml"):
        return f"--scenario {word}"
    for package, flag in FLAGS.items():
        if word in names_in(package):
            return f"--{flag} {word}"
    parts = {"server": itself.command("server"), "client": itself.command("client")}
    name = word.partition("=")[0].replace("-", "_")
    if name in SETTINGS and "=" in word:
        return f"--{word}"
    parts["keys"] = f"{parts['server']} keys"
    if close := nearest(word, [*known_scenarios(), *parts]):
        return parts.get(close) or f"--scenario {close}"
    return ""


def _is_given(arguments: Sequence[str], name: str) -> bool:
    """Whether a flag stands on a command line, with whatever value."""
    return any(word.partition("=")[0] == f"--{name}" for word in arguments)


def _about(kind: type[Flags]) -> str:
    """What ``--help`` begins with."""
    simulate, server, client = (itself.command(part) for part in ("simulate", "server", "client"))
    ways = {
        "simulate": f"{server} runs it over a real network, and {client} is one client of it; --help says more of either.",
        "server": f"{client} starts each client, {server} keys makes what those of other machines need; {simulate} needs neither.",
    }
    return f"{kind.__doc__}\n\n{ways[kind.part]}"


def is_asked(flag: str, arguments: list[str]) -> bool:
    """Whether a command line has this flag that is true or false, and does not say false; before it is parsed."""
    words = [word.replace("_", "-") if word.startswith("--") else word for word in arguments]
    return any(word.partition("=")[0] == f"--{flag}" for word in words) and _word_after(words, flag) != "false"


def names_given(arguments: list[str]) -> set[str]:
    """Names of the settings that stand on a command line."""
    words = {word.partition("=")[0].lstrip("-").replace("-", "_") for word in arguments if word.startswith("--")}
    return words & SETTINGS.keys()


def _word_after(arguments: list[str], name: str) -> str:
    """The value of a flag that is needed before the others are parsed; nothing without it, or where nothing follows."""
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument(f"--{name}", dest="word", default="", nargs="?")
    return finder.parse_known_args(arguments)[0].word or ""


def _swept(arguments: list[str], name: str) -> list[str]:
    """The values that ``--sweep NAME=VALUE,VALUE`` gives a setting that is needed before the others are parsed."""
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--sweep", action="extend", nargs="*", default=[])
    swept = (word.partition("=") for word in finder.parse_known_args(arguments)[0].sweep)
    return [v.strip() for key, _, values in swept if key.strip().lstrip("-") == name for v in values.split(",")]


def check_used(settings: Mapping[str, Any], experiments: Sequence[Experiment], source: str = "") -> None:
    """Refuse settings of plug-ins that none of these experiments uses.

    Raises:
        UserError: names the setting, its owner, and what is used instead.
    """
    used = {name for experiment in experiments for name, _ in experiment.own}
    for name in (name for name in settings if name in declared() and name not in used):
        owner = declared()[name].plugin
        flag = FLAGS[next(package for package in PACKAGES if owner in names_in(package))]
        instead = " or ".join(dict.fromkeys(f"--{flag} {getattr(e, flag)}" for e in experiments[:3]))
        also = [user for user in users_of(name) if user != owner]
        whose = f"{name} is {owner}'s" + (f" (used by {', '.join(also)} too)" if also else "")
        raise UserError(
            f"{source}--{name.replace('_', '-')} {shown_value(settings[name])}: {whose}, and {instead} "
            f"{'does' if len(experiments) == 1 else 'do'} not use it"
        )


def steps_in(scenario: Scenario) -> list[Experiment]:
    """The scenario with each attack and each strategy that its tables name: what a study's runs may use."""
    found = [scenario.experiment]
    for name in FLAGS.values():
        values = dict.fromkeys(map(str, _varied(scenario.study, name)))
        found += [Experiment.of(whole(scenario.said | {name: value}, scenario.auto)) for value in values]
    return found


def _varied(study: Mapping[str, Any], name: str) -> list[Any]:
    """The values that a scenario's tables give a setting."""
    points, swept = study.get("point", []), study.get("sweep", {})  # amiss, the plan refuses them
    entries = [entry for entry in points if isinstance(entry, dict)] if isinstance(points, list) else []
    axis = swept.get(name) if isinstance(swept, dict) else None
    return [*(entry[name] for entry in entries if name in entry), *(axis if isinstance(axis, list) else [])]


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
    if (
        idle is None
        or scenario.idle
        or not ATTACKERS & set(given)
        or any(e.malicious and not e.idle for e in experiments)
    ):
        return
    what, wanted = "--malicious 0", "--malicious 1 or more"
    if idle.malicious:
        what, wanted = "--attack-rounds 0", "--attack-rounds 1 or more"
    instead = "for a run without an attacker: --scenario clean"
    if has_trigger(idle.attack):
        instead = f"for the ASR of its trigger without an attacker: --scenario clean --attack {idle.attack}"
    raise UserError(f"--attack {idle.attack} with {what}: nobody would attack; wanted {wanted}, or {instead}")


def check_rounds(experiments: Sequence[Experiment], given: Collection[str]) -> None:
    """Refuse rounds of attack that the runs do not have: ranges in any case, a number where the command line gives it.

    A number in a file may lie beyond the last round, as it always could: a scenario's, for a run that is shorter.

    Raises:
        UserError: names both settings.
    """
    for e in experiments:
        if e.last_attack > e.rounds and (isinstance(e.attack_rounds, str) or "attack_rounds" in given):
            raise UserError(f"--attack-rounds {e.attack_rounds}: beyond --rounds {e.rounds}")


def known_scenarios() -> dict[str, Path]:
    """Name → file of the scenarios that come with the project."""
    return {path.stem: path for path in sorted(SCENARIOS.glob("*.toml"))}


def load_scenario(name_or_path: str) -> Experiment:
    """The experiment of a scenario in ``scenarios/``, or of a TOML file of the user's (anything that ends in .toml)."""
    return load_scenario_file(name_or_path).experiment


def load_scenario_file(name_or_path: str, auto: str = "auto", asked: str = "--scenario") -> Scenario:
    """The same with what the file says of a study; ``auto`` as ``parse_command`` takes it, ``asked`` by what it was named.

    Raises:
        UserError: an unknown name, a file that cannot be read, or settings that cannot be.
    """
    known = known_scenarios()
    path = Path(name_or_path)
    if name_or_path in known:
        path = known[name_or_path]
    elif path.suffix != ".toml":
        named = shortened(name_or_path, 200) or repr(name_or_path)
        raise UserError(
            f"{asked} {named}: no such scenario{near(name_or_path, known)}; known: {', '.join(known)}, or PATH.toml"
        )
    content = _read_toml(path, asked)
    study = {name: content.pop(name) for name in STUDY_TABLES if name in content}
    for package, name in FLAGS.items():
        for value in (content.get(name), *_varied(study, name)):
            outside.use(package, value)
    outside.check_recorded(content.items(), str(path))
    check_names(content, str(path))
    content["scenario"] = content.get("scenario") or file_name(path.stem)
    whole_file = checked(whole(content, auto), str(path))
    check_name(whole_file["scenario"], f"{path}: scenario")
    scenario = Scenario({name: whole_file[name] for name in content}, study, str(path), auto)
    check_used({n: v for n, v in content.items() if v != SETTINGS[n]}, steps_in(scenario), f"{path}: ")
    return scenario


def load_record(file: Path) -> Experiment:
    """The settings of a run that was made, to be shown, from its config.toml.

    Plug-ins from outside are neither used nor looked for: what settings they have is as the file says.

    Raises:
        UserError: a file that cannot be read, or settings that cannot be.
    """
    content = _read_toml(file)
    theirs: dict[str, Any] = {}
    if has_outside_steps(*(str(content.get(name, "none")) for name in FLAGS.values())):
        others = [name for name in content if name not in SHARED and not is_built_in(name)]
        theirs = {name: content.pop(name) for name in others if _is_plain(content[name])}
    check_names(content, str(file))
    content.setdefault("scenario", file.stem)
    return Experiment.of(checked(SETTINGS | content, str(file)) | theirs)


def _is_plain(value: Any) -> bool:
    return isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= LONGEST_VALUE)


def check_names(settings: dict[str, Any], source: str) -> None:
    """Refuse names that are no settings.

    Raises:
        UserError: names the nearest setting, or all.
    """
    for name in settings.keys() - SETTINGS.keys():
        close = nearest(str(name), SETTINGS)
        hint = f"did you mean {close}?" if close else f"known: {', '.join(SETTINGS)}"
        raise UserError(f"{source}: {shortened(str(name), 80)} is not a setting; {hint}")


def check_name(name: str, source: str) -> None:
    """Refuse a scenario's or a chart's name that cannot be a folder's or a file's: one rule for all that is called by it.

    Raises:
        UserError: says where the name stands.
    """
    if not name.strip() or file_name(name) != name:
        said = shortened(repr(name) if name.isprintable() else ascii(name), 120)
        raise UserError(
            f"{source} = {said}: wanted a name of up to 100 characters, which does not begin with a dot and has none of "
            '/ \\ : * ? " < > |'
        )


def _read_toml(path: Path, asked: str = "--scenario") -> dict[str, Any]:
    with refusing(f"{asked} {path}: cannot read the file"):
        content = read_bytes(path, MOST_BYTES)
    with refusing(f"{asked} {path}: not a TOML file"):
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise ValueError("it is in UTF-16, as some editors and PowerShell write; save it as UTF-8")
        try:
            return tomllib.loads(content.decode("utf-8-sig"))  # Windows' editors begin with a byte order mark
        except UnicodeDecodeError as error:
            raise ValueError(
                f"it is not in UTF-8 (byte {error.start} is {content[error.start]:#04x}); save it as UTF-8"
            ) from None


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
