"""What a run leaves: a folder with its settings, environment, one line a round, and a summary. Plots and reports read only these."""

import dataclasses
import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Self

import tomli_w
from annotated_types import Ge, Le
from filelock import FileLock, Timeout
from pydantic import ConfigDict, TypeAdapter, with_config
from typing_extensions import TypedDict

from oleander.settings.cli import BESIDES, RESUMABLE, Command, load_record, load_scenario
from oleander.settings.config import Experiment
from oleander.settings.declared import FLAGS, outside, outside_steps
from oleander.settings.ranges import Count, CountOrZero, Rate
from oleander.settings.session import FOLDER, is_of_a_session
from oleander.settings.steps import short, shown
from oleander.system import itself
from oleander.system.environment import differences
from oleander.system.errors import UserError
from oleander.system.files import absolute, appending, check_own, file_name, own_folder, replace_file
from oleander.system.foreign import MIB, parsed_json, plain, read_bytes, reason, refusing

CONFIG, ENVIRONMENT, ROUNDS, SUMMARY, LOG = (
    "config.toml", "environment.json", "rounds.jsonl", "summary.json", "log.txt",
)  # fmt: skip
STATE = "state.safetensors"
"""The global model after the last round, while the run is not finished: ``oleander.experiment.resume``."""
MODEL, REPAIRED_MODEL = MODEL_FILES = ("model.safetensors", "model_repaired.safetensors")
STUDY = "study.json"
SAMPLES = "samples.npz"
REPORT = "report.html"
LOCK = ".lock"
MOST_RECORDS = 512 * MIB


STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
"""Records may be others': they are read as data, each value checked."""
Norm = Annotated[float, Ge(0), Le(1e100)]
Cosine = Annotated[float, Ge(-1), Le(1)]


class Dropped(TypedDict):
    """A client that was selected and left out."""

    client: int
    cause: str


@dataclass(frozen=True)
class RoundRecord:
    """One round, clients by rising id; round 0 is the starting model's evaluation. The lists over clients have equal length."""

    __pydantic_config__ = STRICT
    round: CountOrZero
    mta: Rate | None
    """None where the round was not scored (``--evaluate last``)."""
    asr: Rate | None
    loss: float | None
    client_ids: list[int]
    malicious: list[bool]
    """Known to the experiment, never to a rule; joined here afterwards."""
    norms_before: list[Norm]
    """L2 norms of the updates' weights as they came."""
    norms_after: list[Norm | None]
    """… and after the filters; 0 for whom a filter left out, None for whom it mixed with others."""
    influence: list[float]
    train_losses: list[float | None]
    dropped: list[Dropped]
    clamped_variances: int
    images: int
    """Training images that passed through the clients' models."""
    seconds: dict[str, float]
    cosines: list[Cosine | None] = field(default_factory=list)
    """Of each update's weights as they came, and the change of the global model's; None where either is 0. Empty in old records."""
    robust_accuracy: Rate | None = None
    """Of the images that the ASR is measured on, the share that is answered with its true class. None where there is no ASR, and in
    records from before it was measured."""
    scored_images: Count | None = None
    """Clean test images that MTA and loss are of. None where the round was not scored, and in old records."""
    scored_victims: Count | None = None
    """Images that the ASR and the robust accuracy are of. None where there is no ASR, and in old records."""


@dataclass(frozen=True)
class Repaired:
    """The final model after ``--repair``."""

    __pydantic_config__ = STRICT
    mta: Rate
    asr: Rate | None
    loss: float | None
    model_sha256: str
    """SHA-256 of model_repaired.safetensors."""
    seconds: float
    """Of the repair and its scores."""
    robust_accuracy: Rate | None = None


@dataclass(frozen=True)
class Voted:
    """A vote of several models at test time, in the final one's place (``--crfl-votes``)."""

    __pydantic_config__ = STRICT
    mta: Rate
    asr: Rate | None
    robust_accuracy: Rate | None
    voters: Annotated[int, Ge(1), Le(10**6)]
    test_images: Annotated[int, Ge(1), Le(10**12)]
    """Voted on: some of the test's, drawn by the seed."""
    seconds: float


@dataclass(frozen=True)
class Summary:
    """A finished run in one object."""

    __pydantic_config__ = STRICT
    scenario: str
    strategy: str
    attack: str
    dataset: str
    seed: int
    augment: str
    malicious: list[int]
    mta: Rate
    asr: Rate | None
    baseline_mta: Rate
    baseline_asr: Rate | None
    true_positive_rate: Rate | None
    """Share of the malicious clients' appearances in which the defence gave them no influence."""
    false_positive_rate: Rate | None
    """The same share of the benign clients' appearances."""
    model_sha256: str
    """SHA-256 of model.safetensors."""
    start: str
    """The model that the run started from."""
    dataset_sha256: str
    device: str
    seconds: dict[str, float]
    test_images: Annotated[int, Ge(0), Le(10**12)] = 0
    """That MTA and loss are measured on; 0 in records from before it was kept."""
    repair: str = "none"
    repaired: Repaired | None = None
    """None where nothing was to be repaired."""
    target_class: str = ""
    """Name of the class that the backdoor leads to; nothing in records from before it was kept."""
    robust_accuracy: Rate | None = None
    """As a round's, of the final model."""
    voted: Voted | None = None
    """None where the final model answers alone."""

    @property
    def measures_asr(self) -> bool:
        """Whether the run has an ASR at all: an untargeted attack has none."""
        return self.asr is not None or self.baseline_asr is not None


@with_config(ConfigDict(strict=True, extra="allow"))
class Environment(TypedDict, total=False):
    """What pages and comparisons use of environment.json."""

    packages: dict[str, str | None]
    commit: str | None
    gpu: str | None
    resumed: list["Resumed"]


@with_config(ConfigDict(strict=True, extra="allow"))
class Resumed(TypedDict):
    """Where a run went on."""

    after_round: int


_ROUND, _SUMMARY, _ENVIRONMENT = TypeAdapter(RoundRecord), TypeAdapter(Summary), TypeAdapter(Environment)


class RunFolder:
    """The folder of one run: rounds.jsonl holds the rounds that are finished, and summary.json is there once all are.

    While this object lives, no other process can write to the folder.
    """

    def __init__(self, path: Path, *, ours: bool = False, again: bool = False) -> None:
        """Make the folder, or take an empty one.

        Args:
            path: of the folder.
            ours: this program made it a moment ago.
            again: it holds a run that stopped and goes on.

        Raises:
            UserError: it is not empty, cannot be made, or another process writes to it.
        """
        self.path = path
        if not again:
            check_free(path)
        check_safe(path)
        self._made = ours or not path.exists()  # what was there before is not ours to remove
        self._lock = taken(path)

    @classmethod
    def of(cls, experiment: Experiment) -> Self:
        """The folder that ``--out`` names, or a new one below runs/."""
        if experiment.out:
            return cls(Path(experiment.out))
        return cls(default_folder(experiment, time.time()), ours=True)

    def discard(self) -> None:
        """Undo the making of the folder, for a run that was refused before it began."""
        self.release()
        (self.path / LOG).unlink(missing_ok=True)
        if self._made:
            self.path.rmdir()

    def release(self) -> None:
        """Let other processes write to the folder."""
        free(self.path, self._lock)

    def write_settings(self, experiment: Experiment, environment: dict[str, Any], target_class: str = "") -> None:
        """Write config.toml, a complete scenario, environment.json, and the source of what was a function of a Python session."""
        write_scenario(self.path / CONFIG, experiment, target_class)
        for file, source in session_files(experiment).items():
            replace_file(own_folder(self.path / FOLDER) / file, source.encode())
        self._write(ENVIRONMENT, json.dumps(environment, indent=1))

    def note_resumption(self, round_number: int, environment: dict[str, Any]) -> list[str]:
        """Add to environment.json where the run goes on after which round; returns what is no longer as it was."""
        first = read_environment(self.path)
        changed = differences(first, environment, ("commit", "packages", "cpu", "device", "gpu"))
        first.setdefault("resumed", []).append({"after_round": round_number, **environment})
        self._write(ENVIRONMENT, json.dumps(first, indent=1))
        return changed

    def append(self, record: RoundRecord) -> None:
        """Add a finished round to rounds.jsonl and see it to the disk."""
        line = json.dumps(_finite(dataclasses.asdict(record)), allow_nan=False) + "\n"
        with appending(self.path / ROUNDS) as file:
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())

    def write_summary(self, summary: Summary) -> None:
        """Write summary.json; its presence says that the run is whole, and nothing is left to resume."""
        self._write(SUMMARY, summary_text(summary, indent=1))
        (self.path / STATE).unlink(missing_ok=True)

    def drop_models(self) -> None:
        """Remove the models of a run that is finished and was to keep none (``--keep none``)."""
        if is_finished(self.path):
            for name in MODEL_FILES:
                (self.path / name).unlink(missing_ok=True)

    def _write(self, name: str, text: str) -> None:
        replace_file(self.path / name, text.encode())


def left_no_model(folder: Path) -> bool:
    """Whether a finished run's model was removed because it was to keep none."""
    return (folder / CONFIG).is_file() and not (folder / MODEL).exists() and settings_of(folder).keep == "none"


def session_files(experiment: Experiment) -> dict[str, str]:
    """File → text of the plug-ins in use that are functions of a Python session."""
    used = [
        outside(package)[short(step)]
        for package, flag in FLAGS.items()
        for step in outside_steps(package, getattr(experiment, flag))
        if is_of_a_session(step)
    ]
    return {f"{plugin.name}.py": plugin.source for plugin in used}


def write_scenario(file: Path, experiment: Experiment, target_class: str = "") -> None:
    """All settings but ``out`` as a scenario file; a comment says what the target is called."""
    settings = {k: v for k, v in experiment.settings().items() if v is not None and k != "out"}
    header = f"# Running this again gives the same result: {itself.command()} --scenario config.toml\n"
    for name in session_files(experiment):
        header = f"# Cannot be run again as it is: {name} was a function of a Python session; its source is {FOLDER}/{name}\n"
    header += f"# The target, {experiment.target}, is the class {plain(target_class)}\n" if target_class else ""
    replace_file(file, (header + tomli_w.dumps(settings)).encode())


def taken(folder: Path, below: str = "") -> FileLock:
    """Make the folder (and one ``below`` it), begin its log, and keep other processes out until the lock is released.

    Raises:
        UserError: it cannot be made, or another process is at work in it.
    """
    try:
        (folder / below).mkdir(parents=True, exist_ok=True)
        with appending(folder / LOG):
            pass
        lock = FileLock(folder / LOCK, thread_local=False)
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"{folder}: another process is running in this folder") from None
    except OSError as error:
        raise UserError(f"--out {folder}: cannot make the folder: {reason(error)}") from None
    return lock


def free(folder: Path, lock: FileLock) -> None:
    """The end of ``taken``: let other processes write to the folder."""
    (folder / LOCK).unlink(missing_ok=True)  # while it is ours
    lock.release()


def read_rounds(folder: Path) -> list[RoundRecord]:
    """The finished rounds of a run folder, round 0 first.

    Raises:
        UserError: they cannot be read, or are no such records.
    """
    with refusing(f"{folder / ROUNDS}: no records of rounds"):
        return rounds_in(read_bytes(folder / ROUNDS, MOST_RECORDS))


def rounds_in(content: bytes) -> list[RoundRecord]:
    """The records that stand in these lines.

    Raises:
        ValueError: one is none.
    """
    records = [_checked(_ROUND, line) for line in content.splitlines()]
    for record in records:
        lists = [record.client_ids, record.malicious, record.norms_before, record.norms_after, record.influence]
        lists += [record.cosines] if record.cosines else []
        if len({len(values) for values in lists}) > 1:
            raise ValueError(f"round {record.round} has lists of unequal length")
    return records


def read_summary(folder: Path) -> Summary:
    """The summary of a finished run.

    Raises:
        UserError: it cannot be read, or is none.
    """
    with refusing(f"{folder / SUMMARY}: no summary of a run"):
        return summary_of(read_bytes(folder / SUMMARY, MIB))


def summary_text(summary: Summary, indent: int | None = None) -> str:
    """A summary as JSON, on one line or with an indent."""
    return json.dumps(_finite(dataclasses.asdict(summary)), indent=indent, allow_nan=False)


def summary_of(content: bytes) -> Summary:
    """The summary that JSON holds.

    Raises:
        ValueError: it holds none.
    """
    summary: Summary = _checked(_SUMMARY, content)
    if missing := {"total", "startup", "train", "aggregate", "evaluate", "other"} - summary.seconds.keys():
        raise ValueError(f"seconds has no {min(missing)}")
    return summary


def read_environment(folder: Path) -> dict[str, Any]:
    """What a run ran on, as environment.json has it.

    Raises:
        UserError: it cannot be read, or is none.
    """
    with refusing(f"{folder / ENVIRONMENT}: no environment of a run"):
        return dict(_checked(_ENVIRONMENT, read_bytes(folder / ENVIRONMENT, MIB)))


def _checked(kind: TypeAdapter[Any], content: bytes) -> Any:
    parsed_json(content)  # pydantic's own parser takes a name that stands twice, and NaN
    return kind.validate_json(content)


def check_finished(folder: Path) -> None:
    """Refuse a finished run whose records do not fit together, before anything is built on them.

    Raises:
        UserError: says what does not fit.
    """
    read_summary(folder), read_environment(folder)
    rounds, wanted = [record.round for record in read_rounds(folder)], settings_of(folder).rounds
    if rounds != list(range(wanted + 1)):
        raise UserError(
            f"{folder}: {SUMMARY} says that the run is finished, but {ROUNDS} has not the rounds 0 to {wanted}"
        )


def is_finished(folder: Path) -> bool:
    """Whether the folder holds a run whose rounds are all done."""
    return (folder / SUMMARY).is_file()


def settings_of(folder: Path) -> Experiment:
    """The settings of the run in this folder, to be shown; plug-ins from outside that it names are not looked for.

    Raises:
        UserError: not a run folder.
    """
    return dataclasses.replace(load_record(_config(folder)), out=str(folder.resolve()))


def _config(folder: Path) -> Path:
    config = folder / CONFIG
    if not config.is_file():
        what = "is not there" if not folder.exists() else f"is not the folder of a run: it has no {CONFIG}"
        if (folder / STUDY).is_file():
            what = "is the folder of a study, which goes on when its own command is run again (study.json names it)"
        raise UserError(f"--resume {folder}: {what}")
    return config


def taken_up(command: Command) -> tuple[Experiment, RunFolder]:
    """The settings and the folder of the run that ``--resume`` names; from here on nobody else goes on with it.

    Raises:
        UserError: flags that would make it another run, or a folder that cannot go on.
    """
    flags, path = command.flags, Path(command.flags.resume or "")
    if path.parts:
        path = absolute(str(path))
    given = [*command.given, *(name for name in BESIDES if name != "resume" and getattr(flags, name))]
    given += ["scenario"] * bool(command.scenario.source) + ["out"] * bool(flags.experiment.out)
    other = sorted(f"--{name.replace('_', '-')}" for name in given if name not in RESUMABLE)
    if other or not flags.resume:
        why = (
            f"goes with none of {', '.join(other)}; the run's own {CONFIG} counts" if other else "wanted a run's folder"
        )
        raise UserError(f"--resume {flags.resume}: {why}")
    changes = command.given
    experiment = dataclasses.replace(load_scenario(str(_config(path))), out=str(path.resolve()), **changes)
    return experiment, RunFolder(path, again=True)


def check_free(path: Path) -> None:
    """Refuse a run folder that is there and not empty; one of a run that ended before it began is free.

    Raises:
        UserError: it is a file, or a folder that holds something.
    """
    with refusing(f"--out {path}"):
        if path.exists() and (not path.is_dir() or contents(path)):
            raise UserError(
                f"--out {path}: is there and not empty; name a new folder, so that no result is overwritten"
            )


def check_safe(path: Path) -> None:
    """Refuse a folder, if it is there, in which something would lead what is written elsewhere.

    Raises:
        UserError: names the entry.
    """
    with refusing(f"{path}: cannot be used as the folder of a run"):
        if path.exists():
            check_own(path)


def contents(path: Path) -> set[str]:
    """Names in a folder, but for what a run or a study leaves there that ended before it began."""
    return {entry.name for entry in path.iterdir()} - {LOG, LOCK}


def default_folder(experiment: Experiment, now: float) -> Path:
    """Make runs/<scenario>-<strategy>-s<seed>-<time>, with a number behind it where that is taken.

    Raises:
        UserError: it cannot be made.
    """
    name = run_name(experiment, time.strftime("%Y%m%d-%H%M%S", time.localtime(now)))
    parent, taken = Path("runs").resolve(), 1
    path = parent / name
    try:
        parent.mkdir(exist_ok=True)
        while True:
            try:
                path.mkdir()
                return path
            except FileExistsError:
                taken += 1
                path = path.with_name(f"{name}-{taken}")
    except OSError as error:
        raise UserError(f"{path}: cannot make the run's folder: {error.strerror}; --out DIR names another") from None


def run_name(experiment: Experiment, stamp: str) -> str:
    """What the folder of a run is called, unless --out says otherwise."""
    return file_name(f"{experiment.scenario}-{shown(experiment.strategy)}") + f"-s{experiment.seed}-{stamp}"


def detection_rates(rounds: Sequence[RoundRecord]) -> tuple[float | None, float | None]:
    """True and false positive rate of the defence: the shares of malicious and benign appearances left with no influence."""
    excluded: dict[bool, list[bool]] = {True: [], False: []}
    for record in rounds:
        for malicious, influence in zip(record.malicious, record.influence, strict=True):
            excluded[malicious].append(influence == 0)
    true, false = (sum(excluded[who]) / len(excluded[who]) if excluded[who] else None for who in (True, False))
    return true, false


def _finite(value: Any) -> Any:
    """The same structure with null for numbers that JSON has not (NaN, infinite)."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
