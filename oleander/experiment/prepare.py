"""From an experiment to everything its run needs, checked before anything starts: what cannot be, is refused here."""

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attacks import KNOWS, Attack, PoisonedShard, ask, asked, attack_of, fingerprint, poison
from attacks.blend import CAT
from oleander.datasets.data import Dataset
from oleander.datasets.partition import partition, root_shard
from oleander.datasets.sources import load_dataset, settings_for
from oleander.datasets.space import ImageSpace
from oleander.experiment.checks import check_counts, check_files
from oleander.experiment.records import check_free
from oleander.experiment.resume import Standing, standing_of
from oleander.learning.devices import default_device, fastest_precision, gpu_count
from oleander.learning.evaluation import Victims
from oleander.learning.own_model import check_own, check_smallest_batch
from oleander.learning.parameters import Layout
from oleander.learning.weights import Start, layout_of, shipped_checkpoint, starting_model
from oleander.models import identity
from oleander.settings.classes import class_number, confusable
from oleander.settings.config import SETTINGS, Experiment
from oleander.settings.declared import MODELS, built_in, declared
from oleander.settings.registry import attack_steps, blamed, dataset_name, model_name
from oleander.settings.steps import is_one_file, whole_steps
from oleander.settings.steps import whole as whole_step
from oleander.system.display import doing
from oleander.system.errors import UserError
from oleander.system.files import absolute
from oleander.system.machine import cpu_count
from oleander.system.streams import generator
from repairs import repairs_of, try_out
from strategies import Pipeline, Step, pipeline_of

MOST_THREADS = 8
"""Beyond these a batch of 64 small images has too little work for a thread."""


@dataclass(frozen=True)
class Setup:
    """A run, ready to start."""

    experiment: Experiment
    """With what ``auto`` chose, and every path absolute, so that it can be run again from anywhere to the same end."""
    dataset: Dataset
    attack: Attack
    pipeline: Pipeline
    layout: Layout
    start: Start
    shard_sizes: list[int]
    trigger_sha256: str
    """Of some stamped test images and the attack's own pictures: by it they are known again, whatever file they came from."""
    repairs: tuple[Step, ...] = ()
    """What is done to the final model after the last round."""
    standing: Standing | None = None
    """Where a run stands that stopped and goes on; ``start`` is then the model that it goes on from."""
    victims: Victims | None = None
    """What the ASR is measured on; None: all stamped test images that are not of the target class."""

    @property
    def target(self) -> int:
        """Number of the class that the backdoor leads to."""
        return int(self.experiment.target)

    @property
    def target_class(self) -> str:
        """Its name."""
        return self.dataset.classes[self.target]

    @property
    def reply_bytes(self) -> int:
        """Of the arrays in a client's longest reply: a model, and what the attackers remember."""
        return sum(a.nbytes for a in (*self.start.state.sent(), *self.attack.memory.values()))

    @property
    def asks(self) -> set[str]:
        """What strategy and repairs want to know."""
        return self.pipeline.asks | {ask for step in self.repairs for ask in step.asks}


class Sources:
    """Datasets and starting models, each loaded once for all runs that a process prepares."""

    def __init__(self, notify: Callable[[str], None]) -> None:
        """``notify`` is told in one sentence what the user must know, each thing once."""
        self.notify = functools.cache(notify)
        self.dataset = functools.cache(self._dataset)
        self._starts: dict[tuple[str, str, str, ImageSpace, int], Start] = {}

    def _dataset(self, source: str, data_dir: str, asked: tuple[tuple[str, Any], ...] = ()) -> Dataset:
        with doing(f"reading the images of {source}"):
            return load_dataset(source, data_dir, self.notify, **dict(asked))

    def start(self, experiment: Experiment, dataset: Dataset, layout: Layout) -> Start:
        """The starting model of these settings."""
        seed = experiment.seed if experiment.weights in ("auto", "fresh") else 0
        model = identity(experiment.model, experiment.norm)
        key = model, experiment.weights, dataset.fingerprint, dataset.image, seed
        if key not in self._starts:
            self._starts = {
                key: starting_model(
                    experiment.model, experiment.weights, dataset, layout, experiment.seed, experiment.norm
                )
            }  # the last is enough
        return self._starts[key]


def prepare(experiment: Experiment, sources: Sources, stopped: Path | None = None) -> Setup:
    """Check the settings, cheap checks first, then load the data and the starting model.

    Args:
        experiment: what is to be run.
        sources: of data and starting models.
        stopped: folder of the stopped run that is to go on.

    Raises:
        UserError: something cannot be; says the value, the rule and the known alternatives.
    """
    experiment = _absolute(experiment)
    check_settings(experiment, new=stopped is None)
    pipeline, repairs = pipeline_of(experiment), repairs_of(experiment)
    dataset = sources.dataset(experiment.dataset, experiment.data_dir, settings_for(experiment))
    experiment = with_numbers(experiment, dataset, sources.notify)
    layout_now = functools.cache(lambda: _layout(experiment, dataset))
    attack = attack_of(experiment, dataset.image, layout_now)
    shards = partition(dataset, experiment)
    victims = attack.victims(dataset) if attack.victims else None
    with blamed("attacks", experiment.attack):
        innocent = poison_nothing(experiment, attack, dataset, shards)
    if innocent:
        sources.notify(
            f"Malicious clients that poison no image, since none of theirs is one that --attack {experiment.attack} takes at "
            f"--poison-rate {experiment.poison_rate:g}: {', '.join(map(str, innocent))}"
        )
    asks = {ask for step in (*pipeline.steps, *repairs) for ask in step.asks}
    if "root" in asks:
        root_shard(dataset, experiment)  # enough images are left
    trigger_sha256 = fingerprint(attack, dataset)
    layout = layout_now()
    check_batches(experiment, dataset, [len(rows) for rows in shards], asks)
    try_out(repairs, experiment, layout, len(dataset.classes), dataset.image)
    standing = standing_of(stopped, layout) if stopped else None
    if standing:
        for what, then, now in (
            ("images", standing.dataset_sha256, dataset.fingerprint),
            ("stamped images", standing.trigger_sha256, trigger_sha256),
        ):
            if then != now:
                raise UserError(
                    f"--resume {stopped}: the run's {what} had SHA-256 {then[:12]}…, today's have {now[:12]}…"
                )
        start = Start(standing.state, standing.start)
    else:
        start = sources.start(experiment, dataset, layout)
    if experiment.idle:
        measured = ": the ASR is what the trigger does by itself" if attack.trigger else ""
        sources.notify(f"Nobody attacks where no client is malicious{measured}.")
    if start.for_want:
        sources.notify(f"This run starts from {start.origin}: expect low accuracy in its first rounds.")
    source = dataset.name if experiment.dataset == "auto" else experiment.dataset
    resolved = dataclasses.replace(
        experiment,
        dataset=source,
        precision=fastest_precision(default_device(), sources.notify)
        if experiment.precision == "auto"
        else experiment.precision,
        client_threads=experiment.client_threads or threads_for(experiment),
    )
    sizes = [len(rows) for rows in shards]
    return Setup(resolved, dataset, attack, pipeline, layout, start, sizes, trigger_sha256, repairs, standing, victims)


def _layout(experiment: Experiment, dataset: Dataset) -> Layout:
    """The model's, which is tried out first if it is the user's own."""
    if experiment.model not in built_in(MODELS):
        check_own(experiment.model, len(dataset.classes), dataset.image, experiment.norm)
    return layout_of(experiment.model, len(dataset.classes), dataset.image, experiment.norm)


def check_settings(experiment: Experiment, *, new: bool = True) -> None:
    """Refuse what cannot be, as far as that can be told without the data; ``new`` unless its folder is there already.

    Raises:
        UserError: something cannot be; says the value, the rule and the known alternatives.
    """
    check_counts(experiment)
    if experiment.out and new:
        check_free(absolute(experiment.out))
    attack_steps(experiment)
    model_name(experiment)
    dataset_name(experiment)
    check_files(experiment)
    pipeline_of(experiment)
    repairs_of(experiment)


def with_numbers(experiment: Experiment, dataset: Dataset, notify: Callable[[str], None]) -> Experiment:
    """The same, with each class that a setting names by its number: one class, one record, however it was named.

    Raises:
        UserError: the dataset has no such class.
    """
    numbers = {}
    for name in ("target", *(name for name, _ in experiment.own if name in declared() and declared()[name].is_class)):
        value = getattr(experiment, name)
        if value is not None:
            asked = f"--{name.replace('_', '-')} {value}"
            numbers[name] = class_number(asked, value, dataset.classes, dataset.name)
            if text := confusable(asked, value, dataset.classes):
                notify(text)
    return experiment.changed(**numbers)


def poison_nothing(
    experiment: Experiment, attack: Attack, dataset: Dataset, shards: list[NDArray[np.int64]]
) -> list[int]:
    """The malicious clients in whose shards the attack's choice finds nothing to stamp or to relabel.

    A choice that needs the model to be made is not tried out.
    """
    before = {"shard", "rng", "attacker"} | {*SETTINGS} - {*KNOWS}  # "model" is a setting's name too
    choose = attack.choose or (poison if attack.trigger else None)
    if choose is None or not before.issuperset(asked(choose)):
        return []
    found = []
    for number, client in enumerate(experiment.malicious_clients):
        shard = dataset.shard(client, shards[client])
        drawn = generator(experiment.seed, "poison", client=client)
        known = {name: getattr(experiment, name) for name in SETTINGS}
        known |= {"shard": shard, "rng": drawn, "attacker": number}
        chosen: PoisonedShard = ask(choose, known.__getitem__)
        same = np.array_equal(chosen.shard.labels, shard.labels) and np.array_equal(chosen.shard.images, shard.images)
        if not chosen.poisoned.any() and same:
            found.append(client)
    return found


def check_batches(experiment: Experiment, dataset: Dataset, sizes: list[int], asks: set[str]) -> None:
    """Refuse a model that cannot train on the smallest batch of the shards, or of the server's own images where it trains on them.

    Raises:
        UserError: names the settings.
    """
    e = experiment
    images = {f"--samples-per-client {e.samples_per_client}": sizes}
    images |= {f"--root-samples {e.root_samples}": [e.root_samples]} if "root" in asks else {}
    for setting, counts in images.items():
        smallest = min(count % e.batch_size or e.batch_size for count in counts)
        together = f"{setting} with --batch-size {e.batch_size}"
        check_smallest_batch(e.model, len(dataset.classes), dataset.image, e.norm, smallest, together)


def with_files(setup: Setup) -> Experiment:
    """The settings with the path of each file that comes with this project, for a copy of the code that has none of them."""
    experiment = setup.experiment
    shipped = shipped_checkpoint(experiment.model, setup.dataset, experiment.norm)
    weights = experiment.weights if experiment.weights != "auto" else str(shipped or "fresh")
    own = {"blend_image": str(CAT)} if not experiment.blend_image else {}
    return experiment.changed(weights=weights, **own)


def threads_for(experiment: Experiment) -> int:
    """Threads for each client where the user named none: several only where a round's clients leave cores without work.

    One thread a client is the fastest per core. It does not depend on ``actors``, which must not change a result.
    """
    if experiment.ray_address or gpu_count():
        return 1
    return max(1, min(cpu_count() // experiment.clients_per_round, MOST_THREADS))


def _absolute(experiment: Experiment) -> Experiment:
    """The same with every path absolute, so that the run's config.toml can be run again from anywhere."""

    def whole(path: str) -> str:
        return str(absolute(path)) if path else path

    source, weights = experiment.dataset, experiment.weights
    if source.startswith("folder:") and source != "folder:":
        source = "folder:" + whole(source.removeprefix("folder:"))
    elif is_one_file(source):
        source = whole_step(source)
    own = {name: whole(value) for name, value in experiment.own if declared()[name].is_path}
    return experiment.changed(
        dataset=source,
        weights=weights if weights in ("auto", "fresh") else whole(weights),
        data_dir=whole(experiment.data_dir),
        out=whole(experiment.out),
        attack=whole_steps(experiment.attack),
        strategy=whole_steps(experiment.strategy),
        repair=whole_steps(experiment.repair),
        model=whole_step(experiment.model) if is_one_file(experiment.model) else experiment.model,
        **own,
    )
