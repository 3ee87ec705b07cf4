"""Any strategy on plain arrays: for tests, notebooks and other people's code. No Flower, no Ray, no run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from oleander.datasets.data import Shard
from oleander.datasets.space import ImageSpace
from oleander.learning.parameters import FloatArray, Layout, ModelState
from oleander.learning.root import Root
from oleander.learning.updates import Cohort, Memory, Update
from oleander.settings.config import SETTINGS, Experiment, validated
from oleander.settings.declared import declaration, names_in
from oleander.settings.outside import use
from oleander.settings.registry import strategy_steps
from oleander.settings.steps import short, split
from oleander.system.errors import UserError
from strategies import _pipeline as pipeline
from strategies import pipeline_for

MOST_EXAMPLES = 2**40
"""Of a client; so their sum has no overflow, and is exact in float64 for 8,000 of them."""


@dataclass(frozen=True)
class Aggregated:
    """What a strategy made of some updates."""

    delta: FloatArray
    """(d,) float32, the global model's change."""
    influence: NDArray[np.float64]
    """(n,) the weight that each client had in it, in [0, 1]; they sum to 1, or are all 0 where nobody is trusted."""
    memory: dict[str, Memory]
    """What the strategy remembers; hand it in with the next round's updates."""


def aggregate(
    strategy: str, updates: ArrayLike, *, num_examples: ArrayLike | None = None, start: ArrayLike | None = None,
    memory: Mapping[str, Memory] | None = None, seed: int = 0, client_ids: Sequence[int] | None = None, round: int = 1,
    layout: Layout | None = None, root: Root | ArrayLike | None = None, answers: pipeline.Answers | None = None,
    image: ImageSpace | None = None, **settings: Any,
) -> Aggregated:  # fmt: skip
    """Aggregate updates with any ``--strategy``, such as ``clip+krum``; the arrays that are handed in are left alone.

    Args:
        strategy: filters, then one rule, then finishes, joined by +; without a rule, fedavg. A file of your own is a step too.
        updates: (n, d) finite numbers, each client's L_i − G; rounded to float32, as they are when they are sent.
        num_examples: (n,) counts, at least 1 (default: 1 each).
        start: (d,) the global model G that they start from (default: all 0).
        memory: what the strategy remembered after the round before (default: it is the first).
        seed: of steps that draw at random; with the round's number it decides what is drawn.
        client_ids: (n,) different numbers, not negative, by which clients are known again (default: 0 … n − 1).
        round: the round's number.
        layout: which tensor the d numbers belong to (``Layout.of(model)``).
        root: the server's own images with the clients' training, or (d,) the update that this training came to.
        answers: runs a model on images.
        image: what these images are.
        settings: those that the strategy's steps use, by their names (``assumed_malicious=2``).

    Raises:
        UserError: an unknown step or setting, one that no step uses, or a value out of its range.
        RuleError: arrays of the wrong shape, or updates that a step cannot aggregate; names what it needs and was not given.
    """
    experiment = settings_of(strategy, settings)
    steps = pipeline_for(strategy_steps(experiment), experiment, f"strategy {strategy}")
    cohort, order = _cohort(updates, num_examples, start, client_ids, round)
    server = pipeline.Server(seed, layout, _root(root, cohort), answers, image)
    check_rest(steps, memory, seed, round, layout)
    if layout is not None and layout.weight_count != cohort.deltas.shape[1]:
        raise pipeline.RuleError(f"layout has {layout.weight_count} weights, updates have {cohort.deltas.shape[1]}")
    passed = steps.run(cohort, memory or {}, server)
    influence = np.empty(len(cohort))
    influence[order] = passed.aggregate.influence
    return Aggregated(passed.aggregate.delta, influence, passed.memory)


def check_rest(steps: pipeline.Pipeline, memory: Any, seed: Any, number: Any, layout: Any) -> None:
    """Refuse what is not an array and not what it should be."""
    for name, value, least in (("seed", seed, 0), ("round", number, 1)):
        if not isinstance(value, int | np.integer) or not least <= value < 2**63:
            raise pipeline.RuleError(f"{name} = {value!r}; wanted: a whole number, at least {least}")
    if layout is not None and not isinstance(layout, Layout):
        raise pipeline.RuleError(f"layout: a {type(layout).__name__}; wanted: a Layout (Layout.of(model))")
    remembering = [step.name for step in steps.steps if "memory" in step.asks]
    strange = set(memory) - set(remembering) if isinstance(memory, Mapping) else {type(memory).__name__}
    if memory is not None and strange:
        said = ", ".join(remembering) or "no step"
        raise pipeline.RuleError(f"memory of {', '.join(map(str, sorted(strange)))}; of this strategy {said} remembers")


def settings_of(strategy: str, settings: Mapping[str, Any]) -> Experiment:
    """The settings of these steps, checked; NumPy's numbers are numbers."""
    if not isinstance(strategy, str):
        raise UserError(f"strategy = {strategy!r}; wanted: names of steps, joined by +")
    settings = {name: value.item() if isinstance(value, np.generic) else value for name, value in settings.items()}
    use("strategies", strategy, instead=True)  # a notebook's file changes
    steps = [*map(short, split(strategy)), "fedavg"]
    unknown = [name for name in settings if name not in SETTINGS]
    used = sorted({name for step in steps if step in names_in("strategies")
                   for name in declaration("strategies", step).uses if name in SETTINGS})  # fmt: skip
    if unknown:
        raise UserError(f"{unknown[0]}: no such setting; {strategy} uses {', '.join(used) or 'none'}")
    experiment = validated(dict(settings) | {"strategy": strategy}, "aggregate")
    strategy_steps(experiment)
    unused = [name for name in settings if name not in used]
    if unused:
        raise UserError(
            f"{unused[0]} = {settings[unused[0]]!r}: {strategy} does not use it, but {', '.join(used) or 'none'}"
        )
    return experiment


def _cohort(
    updates: ArrayLike, num_examples: ArrayLike | None, start: ArrayLike | None, client_ids: Sequence[int] | None, number: int
) -> tuple[Cohort, NDArray[np.intp]]:  # fmt: skip
    """The cohort by rising client id, and the place (n,) that each of its rows has among the caller's."""
    deltas = _numbers("updates", updates, ("n", "d"))
    n, d = deltas.shape
    if not n:
        raise pipeline.RuleError("updates of no client")
    if not d:
        raise pipeline.RuleError("updates of no weights")
    examples = (
        np.ones(n, np.int64) if num_examples is None else _counts("num_examples", num_examples, n, 1, MOST_EXAMPLES)
    )
    ids = np.arange(n) if client_ids is None else _counts("client_ids", client_ids, n, 0, 2**63 - 1)
    if len(set(ids.tolist())) < n:
        raise pipeline.RuleError(f"client_ids: {ids.tolist()}; wanted: {n} different ones")
    weights = np.zeros(d, np.float32) if start is None else _numbers("start", start, (d,))
    order = np.argsort(ids)
    none = np.zeros((n, 0), np.float32)
    cohort = Cohort(number, ids[order].astype(np.int64), deltas[order], none, examples[order].astype(np.int64),
                    ModelState(weights, none[0]))  # fmt: skip
    return cohort, order


def _root(root: Root | ArrayLike | None, cohort: Cohort) -> Root | None:
    if root is None or isinstance(root, Root):
        return root
    delta = _numbers("root", root, cohort.deltas.shape[1:])
    own = Update(-1, delta, np.zeros(0, np.float32), 1)
    shard = Shard(-1, np.zeros((0, 1, 1, 1), np.uint8), np.zeros(0, np.int64), ImageSpace(1, 1, (0.0,), (1.0,)))
    return Root(shard, lambda _start, _shard, _round: own)


def _array(name: str, given: ArrayLike) -> NDArray[Any]:
    """A tensor's numbers, wherever it is and whether or not it learns; bfloat16, which NumPy does not have, as float32.

    Raises:
        RuleError: what cannot be an array of NumPy's: lists of different lengths, say.
    """
    try:
        if isinstance(given, Tensor):
            given = (given.float() if given.dtype == torch.bfloat16 else given).detach().cpu()
        return np.asarray(given)
    except (ValueError, TypeError, RuntimeError) as error:
        raise pipeline.RuleError(f"{name}: no array of numbers ({error})") from None


def _counts(name: str, given: ArrayLike, n: int, least: int, most: int) -> NDArray[np.int64]:
    """The given n whole numbers."""
    array = _array(name, given)
    if array.shape != (n,) or array.dtype.kind not in "iu" or (array < least).any() or (array > most).any():
        raise pipeline.RuleError(f"{name}: wanted {n} whole numbers from {least} to {most}")
    return array.astype(np.int64)


def _numbers(name: str, given: ArrayLike, shape: tuple[int | str, ...]) -> NDArray[np.float32]:
    """The given numbers in float32, a copy; words in a shape stand for any length."""
    array = _array(name, given)
    fits = len(array.shape) == len(shape) and all(
        isinstance(want, str) or have == want for have, want in zip(array.shape, shape, strict=True)
    )
    if not fits or array.dtype.kind not in "biuf":
        wanted = ", ".join(map(str, shape))
        raise pipeline.RuleError(f"{name}: {array.dtype} of shape {array.shape}; wanted: numbers of shape ({wanted})")
    with np.errstate(over="ignore"):
        narrow = array.astype(np.float32)
    if not np.isfinite(narrow).all():
        raise pipeline.RuleError(f"{name}: has values that are not finite in float32")
    return narrow
