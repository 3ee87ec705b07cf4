"""Repairs: each file is one step of ``--repair``, joined by +, after the last round, on what the server has of its own.

A repair is a pure function of the file's name from a model to a model::

    def finetune(model: ModelState, *, root: Root, finetune_epochs: Count = 5) -> ModelState

Its keyword arguments are settings and knowledge as a strategy's are (``strategies``), without ``memory``, since there is no next
round, and with one more::

    module    a model's numbers → a new torch module with them, in evaluation mode, on the server's device, which takes
              normalised images; ``root.fit`` trains one in place, with hooks, and ``layout.flatten(arrays_of(…))`` has its numbers

One that asks for ``module`` is begun on the untrained model before anything starts, up to where it first touches ``root`` or
``answers``: what it cannot do with a model's layers it says before that, as a ``strategies.RuleError``. The repaired model is scored
as the last round's is; both stand side by side in the summary, the table and the report.
"""

import contextlib
from typing import Any, cast

from torch import nn

from oleander.datasets.space import ImageSpace
from oleander.learning.parameters import Layout, ModelState, arrays_of, load_arrays
from oleander.learning.root import Root
from oleander.models import fresh_model
from oleander.settings.config import Experiment
from oleander.settings.registry import Plugin, bind, blamed, known, repair_steps
from oleander.system.errors import UserError
from strategies import RuleError, Server, Step


def known_repairs() -> dict[str, Plugin]:
    """Name → repair, of every file in repairs/.

    Raises:
        TypeError: one that does not map a model to a model. A programming error.
    """
    found = known("repairs")
    for name, plugin in found.items():
        if (plugin.takes, plugin.returns) != (ModelState, ModelState):
            raise TypeError(f"{name}: wanted ModelState → ModelState")
    return found


def repairs_of(experiment: Experiment) -> tuple[Step, ...]:
    """The steps that ``--repair`` names.

    Raises:
        UserError: an unknown name (lists the known).
    """
    steps = repair_steps(experiment)
    found = known_repairs()
    return tuple(Step(name, bind(found[name], experiment), found[name].asks) for name in steps)


def repaired(model: ModelState, steps: tuple[Step, ...], server: Server) -> ModelState:
    """The model after all steps; the one that comes in is left as it is.

    Raises:
        RuleError: a step that cannot be done, or whose model is not like the one that it was given.
    """
    for step in steps:
        after = step(model, round_number=0, memory={}, server=server)
        if not isinstance(after, ModelState):
            raise RuleError(f"{step.name} returned a {type(after).__name__}, not a ModelState")
        for what, was in (("weights", model.weights), ("statistics", model.statistics)):
            now = getattr(after, what)
            if now.shape != was.shape or now.dtype != was.dtype:
                raise RuleError(
                    f"{step.name} returned {what} of {now.dtype} {now.shape}, not of {was.dtype} {was.shape}"
                )
        model = after
    return model


class _Reached(BaseException):
    """A repair on trial has come to the server's images, and so through all that it could refuse a model for."""


class _Untouchable:
    """Stands for the root set in a trial."""

    def __getattr__(self, name: str) -> Any:
        raise _Reached

    def __call__(self, *_: Any) -> Any:
        raise _Reached


def try_out(steps: tuple[Step, ...], experiment: Experiment, layout: Layout, classes: int, image: ImageSpace) -> None:
    """Begin each repair that asks for the module, on the untrained model, up to where it comes to the server's images.

    Raises:
        UserError: a model that one of them cannot repair.
    """
    for step in steps:
        if "module" not in step.asks:
            continue

        def module(state: ModelState) -> nn.Module:
            made = fresh_model(experiment.model, classes, image, 0, experiment.norm)
            load_arrays(made, layout.unflatten(state))
            return made.eval()

        start = layout.flatten(arrays_of(fresh_model(experiment.model, classes, image, 0, experiment.norm)))
        root = cast(Root, _Untouchable())
        server = Server(0, layout, root, _Untouchable(), image, module)
        with blamed("repairs", experiment.repair), contextlib.suppress(_Reached):
            try:
                step(start, round_number=0, memory={}, server=server)
            except RuleError as error:
                norm = " --norm group" if experiment.norm == "group" else ""
                raise UserError(
                    f"--repair {experiment.repair}: {error}; the model is --model {experiment.model}{norm}"
                ) from None
