"""Every setting of one run, once: frozen, flat and typed, with its unit or range; flags, TOML files and records follow it.

The defaults are the clean baseline of the course's protocol (``docs/definitions.md``); a scenario file states only its
differences, and the command line goes over both. The ranges are part of the types, so one validator checks every source.
"""

import dataclasses
import functools
import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from pydantic import TypeAdapter, ValidationError

from oleander.settings.declared import FLAGS, declared, has_outside_steps, has_unknown_steps, in_use, is_built_in
from oleander.settings.ranges import (
    Class,
    CohortSize,
    Count,
    CountOrZero,
    NotNegative,
    Positive,
    Rate,
    Schedule,
    Seed,
    Share,
    Sizes,
    Threads,
)
from oleander.settings.schedule import rounds_in
from oleander.settings.words import near
from oleander.system.errors import UserError
from oleander.system.foreign import refusing, shortened


@dataclass(frozen=True)
class Experiment:
    """One run of a federated network in which some clients may plant a backdoor."""

    scenario: str = ""
    """Name of a scenario in scenarios/, or the path of a TOML file of your own."""
    description: str = ""
    """One line on what the scenario is, for --list and the records."""

    dataset: str = "auto"
    """cifar10, digits, toy, mnist … (see --list), folder:DIR (DIR/train/<class>/*, DIR/test/<class>/*), hf:NAME (of the Hugging Face
    Hub), a file of your own (./my_data.py), or auto: cifar10 if on disk or downloadable, else digits. It brings the settings with it
    that it is shown with, where it has some (see --list NAME); a scenario and flags go over them."""
    data_dir: str = "data"
    """Folder that datasets are downloaded to, and looked for in."""
    weights: str = "auto"
    """Starting model: a safetensors or PyTorch file, fresh, or auto: the shipped checkpoint of the dataset, else fresh."""
    seed: Seed = 0
    """Seed of everything random in the run: partition, selection, augmentation, poisoning, batches."""

    clients: Count = 6
    """Clients in the network, malicious ones included."""
    clients_per_round: CohortSize = 5
    """Clients drawn each round, uniformly without replacement."""
    rounds: Count = 5
    """Rounds of training and aggregation."""
    partition: Literal["main_label", "iid", "dirichlet", "shards", "pathological", "writers"] = "main_label"
    """How the training images are dealt out, without overlap: a main label a client, at random, class shares from Dir(alpha), shards
    of the images sorted by label, a few classes a client, or to each client what one writer made (where the dataset knows)."""
    samples_per_client: Sizes = 384
    """Training images of each client: a number, or a range of which each client draws its own (100-600). With writers: the most that
    is taken of one, and of a range the least that one must have made."""
    iid_rate: Rate = 0.9
    """Share (0 to 1) of a main_label shard that is drawn from all classes; the rest is of the client's main label."""
    dirichlet_alpha: Positive = 0.5
    """Concentration of the dirichlet partition (> 0); small: each client sees few classes."""
    shards_per_client: Count = 2
    """Pieces of the sorted images that each client of the shards partition is dealt."""
    classes_per_client: Count = 2
    """Classes that each client of the pathological partition has, all of its images being of these."""

    model: str = "resnet18light"
    """What is trained: a file of oleander/models/ (see --list), torchvision:NAME, or a file of your own (./my_model.py)."""
    norm: Literal["batch", "group"] = "batch"
    """Batch norm as the model has it, or in the place of each one group norm, which has no statistics to be sent and averaged."""
    local_epochs: Count = 2
    """Passes over its shard that a selected client makes each round."""
    batch_size: Count = 64
    """Images a step of SGD; the last batch of an epoch may be smaller."""
    lr: Positive = 0.2
    """Learning rate of the clients' SGD."""
    momentum: Rate = 0.9
    """Momentum of the clients' SGD (0 to 1); the optimiser is fresh each round."""
    weight_decay: NotNegative = 5e-4
    """L2 weight decay of the clients' SGD."""
    augment: Literal["once", "round", "epoch", "none"] = "once"
    """Random crop and flip drawn once for each client's shard (the course's protocol), or afresh every round or epoch; or none."""

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """What convolutions are computed in, training and evaluation alike; auto: bf16 where it is measured to be the faster."""

    attack: str = "none"
    """What malicious clients do: none, or steps joined by + (blend, dba+scaling …; see --list)."""
    malicious: CountOrZero = 0
    """Malicious clients (µ)."""
    attackers: Literal["fixed", "random"] = "fixed"
    """Which clients are malicious, in the whole run: the clients 0 … µ-1, or µ clients that the seed draws."""
    poison_rate: Rate = 0.5
    """Share (0 to 1) of a malicious client's shard that is stamped and relabelled to the target; with label_flip and sig: of those of
    its images that they take."""
    target: Class = 0
    """Class that the backdoor leads to: its number (0 is airplane in CIFAR-10 and toy), or its name. Records hold the number."""
    attack_rounds: Schedule | None = None
    """Rounds in which malicious clients attack; in others they train as honest ones do (default: all rounds). A number N: the rounds
    1 to N. Or ranges, joined by commas: 3-10, 10-40/5 (10, 15 … 40), 1-3,7 (there 7 is round 7 alone; 7-7 without others)."""

    strategy: str = "fedavg"
    """How the server aggregates: filters, then one rule, then finishes, joined by + (krum, clip+fedavg+noise …; see --list)."""
    assumed_malicious: CountOrZero = 1
    """f, the number of malicious clients a round that the server's rule assumes; no rule knows the true number."""
    repair: str = "none"
    """What the server does to the final model: none, or steps joined by + (finetune …; see --list)."""
    root_samples: Count = 100
    """Clean images of the server's own, for rules and repairs that ask for them: training images that no client was dealt."""
    on_bad_reply: Literal["fail", "drop"] = "fail"
    """A bad or missing reply ends the run (exit 1), or is left out of its round, and the record says so."""
    round_timeout: Positive = 3600.0
    """Seconds that a round waits for its replies; what has not come by then is missing."""

    min_clients: Count | None = None
    """On a real network: clients that must be there for a round to begin (default: all). Of those drawn, one that is not there
    counts as a missing reply. In a simulation all are always there."""

    evaluate: Literal["every", "last"] = "every"
    """After which rounds the global model is scored; the starting model is in any case. It changes no model, and much time."""
    evaluate_asr: Literal["every", "last"] = "every"
    """After which of those rounds the ASR is measured too; the starting model's baseline is in any case."""
    evaluate_images: Count | Literal["all"] = 2_000
    """Test images that the rounds between the start and the last are scored on, drawn by the seed, the same ones in each round; all:
    every one, as the start and the last round are scored in any case. A record says how many each score is of."""
    no_cache: bool = False
    """Evaluate the starting model even where its scores on these very images are remembered from an earlier run."""

    actors: Count | None = None
    """Clients that train at the same time (default: as many as the machine's CPUs carry, at most clients a round)."""
    runs_at_once: Count | None = None
    """Runs of a study that go on beside each other; it changes no result (default: one more than fill the machine with clients)."""
    client_cpus: Share = 1.0
    """CPUs (may be a fraction) that Ray sets aside for each client at work."""
    client_gpus: NotNegative | None = None
    """GPUs (may be a fraction) set aside for each client (default: without CUDA none, else the GPUs shared by the actors)."""
    client_threads: Threads | None = None
    """Threads a client trains with (default: 1, more where a round has fewer clients than the machine cores). The last
    bits of the result depend on it, so the number is part of config.toml."""
    cuda_graphs: bool = False
    """Train on a GPU by CUDA graphs, which start all kernels of a step at once. Attacks that change steps, and models with dropout,
    train without. Not yet run on a GPU; whether results keep their last bits is not known, so it is part of config.toml."""
    ray_address: str = ""
    """Address of a running Ray cluster to use (auto: the one on this machine); default: start our own."""
    out: str = ""
    """Run folder; must be new or empty (default: runs/<scenario>-<strategy>-s<seed>-<time>). Of a study, its folder, which
    may hold what is finished of it (default: runs/<scenario>)."""
    keep: Literal["models", "none"] = "models"
    """What stays of a finished run beside its records: its models (11.7 MB each of resnet18light), or none. They are removed once the
    run is finished, never before, so that it can be resumed as any other; their SHA-256 stay on record."""

    pages: Literal["auto", "all", "none"] = "auto"
    """Which finished runs get figures and a page of their own: all, none, or auto: a run alone, and those of a study of at most 40.
    They can be made later from the records (--report DIR): of a short run they cost more than its training."""

    own: tuple[tuple[str, Any], ...] = ()
    """Settings that the plug-ins in use declare for themselves, by rising name; each is an attribute as well. What is not in use is
    not kept, so that a new plug-in changes no other run's records."""

    def __post_init__(self) -> None:
        """Let ``own`` hold what attack and strategy use, at its default where nothing was said."""
        given = dict(self.own)
        steps = tuple(getattr(self, flag) for flag in FLAGS.values())
        used = {name: given.get(name, setting.default) for name, setting in in_use(*steps).items()}
        if has_unknown_steps(*steps):  # theirs are kept as they were given
            used |= {name: value for name, value in given.items() if name not in used and not is_built_in(name)}
        object.__setattr__(self, "own", tuple(sorted(used.items())))

    def __getattr__(self, name: str) -> Any:
        """A setting of a plug-in's own; at its default where that plug-in is not in use."""
        if not name.startswith("_"):
            own = dict(self.own)
            if name in own or name in declared():
                return own[name] if name in own else declared()[name].default
        raise AttributeError(name)

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """An experiment of flat settings, plug-ins' own among them; those that it does not use are left out."""
        outside = has_outside_steps(*(settings.get(flag, getattr(cls, flag)) for flag in FLAGS.values()))
        own = {n: v for n, v in settings.items() if n in declared() or (outside and n not in SHARED)}
        return cls(**{name: value for name, value in settings.items() if name not in own}, own=tuple(own.items()))

    def settings(self) -> dict[str, Any]:
        """Name → value of the shared settings and of those in use, flat."""
        return {name: getattr(self, name) for name in SHARED} | dict(self.own)

    def changed(self, **settings: Any) -> Self:
        """The same with other values; also for settings of plug-ins' own, which ``dataclasses.replace`` does not know."""
        return self.of(self.settings() | settings)

    def to_json(self) -> str:
        """All settings as one JSON object."""
        return json.dumps(self.settings())

    @property
    def malicious_clients(self) -> tuple[int, ...]:
        """The malicious clients by rising id; attacker j is the j-th of them. Nothing else says who is malicious."""
        if self.attackers == "fixed" or not self.malicious:
            return tuple(range(self.malicious))
        from oleander.system.streams import generator  # brings PyTorch, for which no refusal should have to wait

        drawn = generator(self.seed, "attackers").choice(self.clients, size=self.malicious, replace=False)
        return tuple(sorted(int(client) for client in drawn))

    def attackers_in(self, round_number: int) -> frozenset[int]:
        """The clients that attack in this round, if they are drawn for it."""
        attacks = round_number in rounds_in(self.attack_rounds, max(self.rounds, round_number))
        return frozenset(self.malicious_clients) if attacks else frozenset()

    @property
    def last_attack(self) -> int:
        """The last round in which they attack; it may lie behind the run's last."""
        return max(rounds_in(self.attack_rounds, self.rounds), default=0)

    @property
    def idle(self) -> bool:
        """Whether there is an attack and nobody to carry it out, so that its trigger is only measured."""
        return self.attack != "none" and not (self.malicious and self.last_attack)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of ``to_json``."""
        return cls.of(json.loads(text))


SHARED: dict[str, Any] = {f.name: f.default for f in dataclasses.fields(Experiment) if f.name != "own"}
"""Name → default of the settings that belong to no plug-in."""
SETTINGS: dict[str, Any] = SHARED | {name: setting.default for name, setting in declared().items()}
"""… and of all, also of plug-ins from outside while this process uses them."""


def learn_settings() -> None:
    """Take account of other plug-ins from outside: SETTINGS and the checks are then of them too."""
    SETTINGS.clear()
    SETTINGS.update(SHARED | {name: setting.default for name, setting in declared().items()})
    _validator.cache_clear()


@functools.cache
def _validator() -> TypeAdapter[Any]:
    """Of all settings, flat."""
    shared = [(f.name, f.type, field(default=f.default)) for f in dataclasses.fields(Experiment) if f.name in SHARED]
    own = [(s.name, s.type, field(default=s.default)) for s in declared().values()]
    return TypeAdapter(dataclasses.make_dataclass("Settings", [*shared, *own], frozen=True))


def validated(settings: dict[str, Any], source: str) -> Experiment:
    """An ``Experiment`` of these settings, as ``checked`` checks them."""
    return Experiment.of(checked(settings, source))


def checked(settings: dict[str, Any], source: str) -> dict[str, Any]:
    """Flat settings, types and ranges checked; ``source`` names where they came from.

    Raises:
        UserError: a value of the wrong type or out of its range; names every such setting, its value and the rule.
    """
    for name, value in settings.items():
        if isinstance(value, str) and name != "description" and {"Cc", "Cs"} & set(map(unicodedata.category, value)):
            raise UserError(
                f"{source}: {name} = {shortened(ascii(value), 80)} has a character that no name or path can have"
            )
    with refusing(source):
        try:
            return vars(_validator().validate_json(json.dumps(settings, default=_of_no_setting), strict=True))
        except ValidationError as error:
            raise UserError(f"{source}: " + "; ".join(_problems(error, settings))) from None


def _of_no_setting(value: Any) -> dict[str, str]:
    """What JSON has not, a date for example, as something that no setting is."""
    return {type(value).__name__: str(value)}


def shown_value(value: Any) -> str:
    """A setting's value in tables and figures."""
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _problems(error: ValidationError, settings: dict[str, Any]) -> list[str]:
    """One readable line for each setting that failed, in the order of the settings."""
    by_setting: dict[str, list[Any]] = {}
    for item in error.errors(include_url=False):
        by_setting.setdefault(str(item["loc"][0]) if item["loc"] else "", []).append(item)
    return [
        f"{name} = {shortened(repr(settings[name]), 80)} must be {_wanted(items)}"
        if name
        else "; ".join(item["msg"] for item in items)
        for name, items in by_setting.items()
    ]


_TYPES = {"int": "a whole number", "float": "a number", "finite": "a number that is finite", "string": "text",
          "bool": "true or false"}  # fmt: skip
"""How pydantic's kinds of errors begin → what was wanted."""


def _wanted(items: list[Any]) -> str:
    """What a setting must be, by all that spoke against it; where it is of one of its types, the others are left out."""
    fitting = [item for item in items if item["type"].partition("_")[0] not in _TYPES]
    right_type = any(item["type"] != "literal_error" for item in fitting)
    rules = []
    for item in fitting if right_type else items:
        rule = _TYPES.get(item["type"].partition("_")[0]) or re.sub(
            r"^(Input should be|Value error, must be|Value error,) ", "", item["msg"]
        )
        if item["type"] == "literal_error" and isinstance(item["input"], str):
            rule += near(item["input"], re.findall(r"'([^']*)'", rule))
        rules.append(rule)
    return " or ".join(dict.fromkeys(rules))
