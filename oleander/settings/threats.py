"""The threat model of a run: what its attackers know, and what its defence needs, read from the plug-ins' texts."""

from collections.abc import Iterable

from oleander.settings.config import Experiment
from oleander.settings.declared import Declaration, declaration, knows_step, steps_of
from oleander.settings.kinds import fields_set, is_omniscient
from oleander.settings.steps import short

ATTACKERS_KNOW = "their own images and training, and the global model"
EACH_OTHERS, EVERYBODYS = "each other's updates", "every client's update"
DEFENCES_NEED = "the clients' updates"
NEEDS = {
    "assumed_malicious": "an assumed number of attackers, f",
    "memory": "memory of earlier rounds",
    "root": "clean images of the server's own",
    "answers": "to run the models",
    "module": "to run the models",
}
"""What a strategy or a repair asks for, by name → what that means; what is not here is known to any server."""


def known_besides(found: Declaration, experiment: Experiment | None = None) -> str:
    """What attackers know besides ``ATTACKERS_KNOW``, by the run's settings or the plug-in's defaults; nothing: ""."""
    for setting in found.settings:
        if setting.name.endswith("_knows"):
            value = setting.default if experiment is None else getattr(experiment, setting.name, setting.default)
            return EVERYBODYS if value == "all" else EACH_OTHERS
    if is_omniscient(found.source):
        return EVERYBODYS
    return EACH_OTHERS if "colludes" in fields_set(found.source) else ""


def needed_besides(found: Declaration) -> list[str]:
    """What a strategy needs besides ``DEFENCES_NEED``, a repair besides the final model."""
    return list(dict.fromkeys(NEEDS[ask] for ask in found.asks if ask in NEEDS))


def threat_model(experiments: Iterable[Experiment]) -> list[str]:
    """A sentence on the attackers and one on the defences, and who of several knows or needs more."""
    attackers: dict[str, str] = {}
    defences: dict[str, list[str]] = {}
    for experiment in experiments:
        if experiment.malicious:
            attackers |= {f.name: known_besides(f, experiment) for f in _steps("attacks", experiment.attack)}
        defences |= {f.name: needed_besides(f) for f in _steps("strategies", experiment.strategy)}
    told = [
        f"Attackers know {ATTACKERS_KNOW}{_more({name: [more] if more else [] for name, more in attackers.items()})}."
    ]
    return (told if attackers else []) + [f"The server needs {DEFENCES_NEED}{_more(defences)}."]


def _more(needs: dict[str, list[str]]) -> str:
    found = {name: more for name, more in needs.items() if more}
    return "".join(f"; {name}: {', '.join(more)}" for name, more in found.items())


def _steps(package: str, value: str) -> list[Declaration]:
    return [declaration(package, short(step)) for step in steps_of(package, value) if knows_step(package, step)]
