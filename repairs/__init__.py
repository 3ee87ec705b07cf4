"""Repairs: each file is one step of ``--repair``, joined by +, after the last round, on what the server has of its own.

A repair is a pure function of the file's name from a model to a model::

    def finetune(model: ModelState, *, root: Root, finetune_epochs: Count = 5) -> ModelState

Its keyword arguments are settings and knowledge as a strategy's are (``strategies``), without ``memory``: there is no next round. The
repaired model is scored as the last round's is; both stand side by side in the summary, the table and the report.
"""

from oleander.learning.parameters import ModelState
from oleander.settings.config import Experiment
from oleander.settings.registry import Plugin, bind, known, repair_steps
from strategies import Server, Step


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
    """The model after all steps; the one that comes in is left as it is."""
    for step in steps:
        model = step(model, round_number=0, memory={}, server=server)
    return model
