"""What one command is to run: a single experiment, or a study: charts of settings, each repeated with several seeds.

A scenario file makes a study by its tables, below its settings::

    repeats = 5                    # seeds of each setting, unless --repeats says otherwise

    [sweep]                        # a run for each value; several settings multiply; --sweep adds more
    malicious = [1, 2, 3]

    [[point]]                      # or settings one by one, each with its label on the x axis
    label = "Krum (f = 1)"
    strategy = "krum"
    published = { mta = 0.7887, asr = 0.007 }      # marked in the chart; optional

    [figure]                       # optional
    title = "Krum against one attacker"
    x = "aggregation"
    norms = true                   # draw the last round's update norms as well
    rounds = true                  # draw MTA and ASR by round as well (needs evaluate = "every")

or it takes in other scenarios' charts, as one study, and has nothing else but ``description`` and ``repeats``; runs that they
share are run once::

    include = ["fig1_malicious_count", "fig2_krum"]
"""

import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from oleander.settings.cli import (
    Command,
    Scenario,
    check_attackers,
    check_name,
    check_names,
    check_rounds,
    check_used,
    load_scenario_file,
)
from oleander.settings.config import SETTINGS, Experiment, shown_value, validated
from oleander.settings.described import UNSPOKEN, true_words
from oleander.settings.protocol import protocol_of, whole
from oleander.settings.ranges import Rate
from oleander.settings.session import without_folders
from oleander.settings.steps import short_value, shown
from oleander.settings.sweeps import (
    NOT_SWEPT,
    Axis,
    axis_of,
    check_axes,
    check_axis,
    check_once,
    check_values,
    told,
    words,
)
from oleander.settings.titles import title
from oleander.system.errors import UserError
from oleander.system.files import file_name
from oleander.system.foreign import shortened

MOST_RUNS = 10_000
KNOWN_ONLY = ConfigDict(extra="forbid")
SAME_SETTING = (
    "dataset",
    "weights",
    "blend_image",
    "precision",
    "evaluate",
    "evaluate_asr",
    "evaluate_images",
    "on_bad_reply",
    "client_threads",
    *NOT_SWEPT,
)
"""Settings that may be given for all and leave a setting the one that was published."""


@dataclass(frozen=True)
class Published:
    """What somebody else reported for the same setting."""

    __pydantic_config__ = KNOWN_ONLY
    mta: Rate | None = None
    asr: Rate | None = None

    @property
    def given(self) -> bool:
        """Whether anything was reported at all."""
        return self.mta is not None or self.asr is not None


@dataclass(frozen=True)
class Point:
    """A [[point]] table, without its settings."""

    __pydantic_config__ = KNOWN_ONLY
    label: str
    published: Published = Published()


@dataclass(frozen=True)
class FigureTable:
    """The [figure] table."""

    __pydantic_config__ = KNOWN_ONLY
    title: str = ""
    x: str = ""
    norms: bool = False
    rounds: bool = False


@dataclass(frozen=True)
class Cell:
    """One setting of a chart: where it stands, and what is run there, once for each seed."""

    x: str
    series: str
    """Name of its line, where a chart has several."""
    published: Published
    experiments: tuple[Experiment, ...]


CellType = TypeVar("CellType")


@dataclass(frozen=True)
class Chart(Generic[CellType]):
    """Settings that are compared in one figure: planned ones (``Cell``), or those that were run (``study.Runs``)."""

    name: str
    title: str
    x_title: str
    series_title: str
    ordered: bool
    """Whether x is a number that rises, so that a line through the points means something."""
    norms: bool
    """Whether the last round's update norms are drawn as well."""
    rounds: bool
    """Whether MTA and ASR by round are drawn as well."""
    cells: tuple[CellType, ...]


@dataclass(frozen=True)
class Plan:
    """A study."""

    name: str
    description: str
    repeats: int
    out: str
    charts: tuple[Chart[Cell], ...]
    kind: str
    """What its folder is called, unless --out says otherwise."""

    def experiments(self) -> list[Experiment]:
        """All that are to be run, in the charts' order, the first seed of every setting before the second of any."""
        cells = [cell for chart in self.charts for cell in chart.cells]
        return [cell.experiments[repeat] for repeat in range(self.repeats) for cell in cells]


def plan_of(command: Command) -> Plan | None:
    """The study that a command line asks for; None for a single run.

    Raises:
        UserError: tables or sweeps that cannot be; names them, their values and the rule.
    """
    flags, scenario = command.flags, command.scenario
    if not (scenario.study or flags.sweep or flags.repeats):
        return None
    given = command.given
    swept = [axis_of(text) for text in flags.sweep]
    for text, axis in zip(flags.sweep, swept, strict=True):
        said = f"--sweep {text}" if isinstance(text, str) else f"sweep of {axis.name}"
        check_axis(axis, said)
        check_values(axis, said)
    check_once(swept, "--sweep")
    parts = _included(scenario) or [scenario]
    repeats = flags.repeats or max(_repeats(part) for part in (scenario, *parts))
    charts = tuple(_chart(part, given, swept, repeats) for part in parts)
    varied_here = {axis.name: axis.values for axis in swept}
    check_used(given | varied_here, _runs_of(charts))
    name = scenario.experiment.scenario
    for chart in charts:
        check_name(chart.name, f"{scenario.source}: scenario")
        if [c.name for c in charts].count(chart.name) > 1:
            raise UserError(f"{scenario.source}: scenario = {chart.name!r}: wanted once in a study")
    own_words = true_words(
        scenario.experiment.description, {*given, *varied_here}, {e.dataset for e in _runs_of(charts)}
    )
    return Plan(
        name, own_words or title(_runs_of(charts)), repeats, flags.experiment.out, charts, _kind(name, swept, given)
    )


def _runs_of(charts: Sequence[Chart[Cell]]) -> list[Experiment]:
    """One run of each setting."""
    return [cell.experiments[0] for chart in charts for cell in chart.cells]


def _included(scenario: Scenario) -> list[Scenario]:
    """The scenarios whose charts this one takes in.

    Raises:
        UserError: something beside the list that would be passed over, or a scenario that includes others itself.
    """
    names = scenario.study.get("include")
    if names is None:
        return []
    own = [n for n, value in scenario.said.items() if value != SETTINGS[n] and n not in ("scenario", "description")]
    if own or set(scenario.study) - {"include", "repeats"} or not _is_list_of_names(names):
        raise UserError(
            f"{scenario.source}: include is a list of scenarios, and stands alone but for description and repeats"
        )
    parts = [_part(name, scenario) for name in names]
    for name, part in zip(names, parts, strict=True):
        if "include" in part.study:
            raise UserError(f"{scenario.source}: {name} includes others itself; include those")
    return parts


def _part(name: str, scenario: Scenario) -> Scenario:
    """A scenario that another includes; a path is taken from the other's folder."""
    path = str(Path(scenario.source).parent / name) if name.endswith(".toml") else name
    return load_scenario_file(path, scenario.auto, f"{scenario.source}: include")


def _kind(name: str, swept: list[Axis], given: dict[str, Any]) -> str:
    """Name of the study's folder: other sweeps and settings are another study; more values and more seeds are not."""
    settings = {key: without_folders(value) for key, value in sorted(given.items()) if key not in NOT_SWEPT}
    digest = [hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:6]] if settings else []
    return "-".join([file_name(name), *(axis.name for axis in swept), *digest])


def _repeats(scenario: Scenario) -> int:
    repeats = scenario.study.get("repeats", 1)
    if not isinstance(repeats, int) or isinstance(repeats, bool) or repeats < 1:
        raise UserError(f"{scenario.source}: repeats = {repeats!r}: wanted a whole number, 1 or more")
    return repeats


def _is_list_of_names(names: Any) -> bool:
    return isinstance(names, list) and bool(names) and all(isinstance(name, str) for name in names)


def _chart(scenario: Scenario, given: dict[str, Any], swept: list[Axis], repeats: int) -> Chart[Cell]:
    source = scenario.source or "command line"
    table = _checked(FigureTable, scenario.study.get("figure", {}), f"{source}: [figure]")
    axes = _axes(scenario, swept, source)
    entries = scenario.study.get("point", [])
    if not isinstance(entries, list):
        raise UserError(f"{source}: point is a list of tables: write [[point]]")
    points = [_point(entry, source) for entry in entries]
    labels = [point.label for point, _ in points]
    for label in labels:
        if labels.count(label) > 1:
            raise UserError(
                f"{source}: [[point]]: label = {label!r} stands twice; by their labels settings are told apart"
            )
    _check_overlap(points, axes, given, scenario)
    x_axis, others = (None, axes) if points or not axes else (axes[0], axes[1:])
    if x_axis:
        points = [(Point(_label(x_axis.name, value)), {x_axis.name: value}) for value in x_axis.values]
    elif not points:
        points = [(Point(_core(scenario.experiment)), {})]
    if (runs := len(points) * math.prod(len(axis.values) for axis in others) * repeats) > MOST_RUNS:
        raise UserError(f"{scenario.experiment.scenario}: {runs} runs; at most {MOST_RUNS}")
    if others or not given.keys() <= set(SAME_SETTING) or protocol_of(scenario.experiment.changed(**given).dataset):
        points = [(dataclasses.replace(point, published=Published()), changes) for point, changes in points]
    given_here = {*given, *(axis.name for axis in swept)}
    base = scenario.said | given
    if scenario.study.keys() - {"repeats"} or given_here - UNSPOKEN - {"description"}:
        base = base | {"description": given.get("description", "")}  # the scenario's is of no single run
    cells = tuple(_cells(points, others, base, repeats, scenario))
    firsts = [cell.experiments[0] for cell in cells]
    own_words = true_words(table.title or scenario.experiment.description, given_here, {e.dataset for e in firsts})
    if "malicious" not in _varied_in_file(scenario):
        check_attackers(scenario.experiment, [e for cell in cells for e in cell.experiments], given_here)
    check_rounds([e for cell in cells for e in cell.experiments], given_here)
    return Chart(
        name=scenario.experiment.scenario,
        title=own_words or title(firsts),
        x_title=table.x or (words(x_axis.name) if x_axis else ""),
        series_title=", ".join(words(axis.name) for axis in others),
        ordered=x_axis is not None and _rises(x_axis.values),
        norms=table.norms,
        rounds=table.rounds,
        cells=cells,
    )


def _varied_in_file(scenario: Scenario) -> set[str]:
    """The settings that the scenario's own tables set, which are checked."""
    study = scenario.study
    return {*study.get("sweep", {}), *(name for entry in study.get("point", []) for name in entry)}


def _axes(scenario: Scenario, swept: list[Axis], source: str) -> list[Axis]:
    """What the scenario sweeps, with the command line's values where it names the same setting, then what else that sweeps."""
    in_file = scenario.study.get("sweep", {})
    if not isinstance(in_file, dict):
        raise UserError(f"{source}: [sweep] is a table of settings and lists of their values")
    check_axes([Axis(name, values) for name, values in in_file.items()], source)
    given = {axis.name: axis for axis in swept}
    return [given.pop(name, Axis(name, values)) for name, values in in_file.items()] + list(given.values())


def _cells(
    points: list[tuple[Point, dict[str, Any]]], axes: list[Axis], base: dict[str, Any], repeats: int, scenario: Scenario
) -> Iterator[Cell]:
    """Each point on each line, where a line is a choice of values for the other axes."""
    for values in itertools.product(*(axis.values for axis in axes)):
        line = dict(zip((axis.name for axis in axes), values, strict=True))
        for point, changes in points:
            settings = whole(base | changes | line, scenario.auto)
            experiments = _seeds(settings, repeats, scenario.source or "command line")
            yield Cell(point.label, _series(line), point.published, experiments)


def _seeds(settings: dict[str, Any], repeats: int, source: str) -> tuple[Experiment, ...]:
    first = validated(settings | {"out": ""}, source)
    if first.seed + repeats > 2**63:
        last = first.seed + repeats - 1
        raise UserError(
            f"--seed {first.seed} with --repeats {repeats}: the last seed would be {last}; at most 2^63 - 1"
        )
    return tuple(dataclasses.replace(first, seed=first.seed + i) for i in range(repeats))


def _point(entry: Any, source: str) -> tuple[Point, dict[str, Any]]:
    if not isinstance(entry, dict):
        raise UserError(f"{source}: [[point]] is a table of settings with a label")
    own = {name: value for name, value in entry.items() if name in ("label", "published")}
    changes = {name: value for name, value in entry.items() if name not in own}
    check_names(changes, f"{source}: [[point]]")
    for name in sorted(changes.keys() & set(NOT_SWEPT)):
        raise UserError(f"{source}: [[point]]: {name} is set for the whole study")
    return _checked(Point, own, f"{source}: [[point]]"), changes


def _check_overlap(
    points: list[tuple[Point, dict[str, Any]]], axes: list[Axis], given: dict[str, Any], scenario: Scenario
) -> None:
    """Refuse to set by a flag, or to sweep, what the study itself varies."""
    by_points = {name for _, changes in points for name in changes}
    swept = {axis.name for axis in axes}
    for name in sorted(by_points & swept):
        raise UserError(f"--sweep {name}: the points of {scenario.experiment.scenario} set it already")
    for name in sorted((by_points | swept) & given.keys()):
        way = f"; --sweep {name}={given[name]} sets its values" if name in swept else ""
        flag = f"--{name.replace('_', '-')} {given[name]}"
        raise UserError(f"{flag}: {scenario.experiment.scenario} varies {name}, so it cannot be set for all{way}")


def _checked(table: type[Any], content: Any, source: str) -> Any:
    if not isinstance(content, dict):
        raise UserError(
            f"{source}: wanted a table of {', '.join(field.name for field in dataclasses.fields(table))}, not {content!r}"
        )
    try:
        return TypeAdapter(table).validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{source}: {where} = {shortened(repr(first['input']), 80)}: {first['msg']}") from None


def _rises(values: list[Any]) -> bool:
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    return numbers and all(a < b for a, b in itertools.pairwise(values))


def _core(experiment: Experiment) -> str:
    return f"{shown(experiment.attack)} / {shown(experiment.strategy)}"


def _label(name: str, value: Any) -> str:
    return shown_value(short_value(name, value))


def _series(line: dict[str, Any]) -> str:
    """What a line is called: its value, since the key names the setting; of several settings each with its name."""
    labels = {name: _label(name, value) for name, value in line.items()}
    return ", ".join(labels.values() if len(labels) == 1 else (told(words(n), label) for n, label in labels.items()))
