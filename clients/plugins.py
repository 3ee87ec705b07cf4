"""Plug-ins from outside the repository on a real network: what copy of a file a client has, and which of them it may run.

Every client trains the model, so each needs its file; an attack's, only those that carry it out. A dataset's, only who cannot read
the server's decoded images and names no --dataset of its own: whether its images are the server's is told by them, not by the file.

The server names a file by its path and its hash. A client runs its own copy, ``--plugin FILE``, known by the file's name; without
one, the server's path only where the server is on this machine and the file is this user's own, since running a file is its user's
choice, and not a server's. In a simulation all is one user's.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oleander.settings import outside
from oleander.settings.config import Experiment
from oleander.settings.declared import DATASETS, FLAGS, MODELS, outside_steps, steps_of
from oleander.settings.steps import is_file, short, whole
from oleander.system.errors import UserError
from oleander.system.foreign import read_bytes, refusing

NodeConfig = Mapping[str, Any]


HONEST, ATTACKING = (MODELS,), (MODELS, "attacks")
"""The packages whose plug-ins a client runs."""


def expected(experiment: Experiment, packages: tuple[str, ...] = ATTACKING) -> dict[str, str]:
    """Name → SHA-256 of the plug-ins from outside that clients run, as the run's settings have it."""
    recorded = dict(experiment.own)
    return {
        name: str(recorded.get(name + outside.HASH, ""))
        for package in packages
        for name in map(short, _steps(experiment, package))
    }


def own_hashes(experiment: Experiment, node_config: NodeConfig) -> dict[str, str]:
    """Name → SHA-256 of this client's copy of each; without those that it has not."""
    found = {}
    for package in (*ATTACKING, DATASETS):
        for step in _steps(experiment, package):
            try:
                found[short(step)] = hashlib.sha256(_content(package, step, node_config)).hexdigest()
            except UserError:
                continue
    return found


def with_own_copies(
    experiment: Experiment, node_config: NodeConfig, packages: tuple[str, ...] = ATTACKING
) -> Experiment:
    """The settings with this client's own copies of the files that it runs.

    Raises:
        UserError: it has no copy, or another file than the server.
    """
    steps = [step for package in packages for step in _steps(experiment, package)]
    if not steps or "mailbox" not in node_config:  # a simulation's, which reads the file by its path
        return experiment
    own = own_hashes(experiment, node_config)
    for name, wanted in expected(experiment, packages).items():
        if problem := difference(name, own.get(name, ""), wanted):
            raise UserError(f"this client {problem}")
    paths = {step: str(_copy(step, node_config)) for step in steps if is_file(step)}
    flags = {FLAGS[package]: steps_of(package, getattr(experiment, FLAGS[package])) for package in packages}
    return experiment.changed(**{flag: "+".join(paths.get(s, s) for s in own) or "none" for flag, own in flags.items()})


def difference(name: str, own: str, wanted: str) -> str:
    """In what a client's copy of a plug-in is not the server's, in words for both sides; nothing if it is."""
    if own == wanted:
        return ""
    if not own:
        return f"has no plug-in {name}, SHA-256 {wanted[:12]}… at the server (--plugin {name}.py names its own copy)"
    return (
        f"has another plug-in {name} than the server: SHA-256 {own[:12]}…, expected {wanted[:12]}… "
        f"(--plugin {name}.py names its own copy)"
    )


def _steps(experiment: Experiment, package: str) -> list[str]:
    """The steps of a package that are from outside."""
    return outside_steps(package, getattr(experiment, FLAGS[package]))


def _content(package: str, step: str, node_config: NodeConfig) -> bytes:
    if is_file(step):
        file = _copy(step, node_config)
        with refusing(f"{file}"):
            return read_bytes(file, outside.MOST_BYTES)
    return outside.look(package, step).source.encode()


def _copy(step: str, node_config: NodeConfig) -> Path:
    """The file that this client may run for a step.

    Raises:
        UserError: there is none.
    """
    own = {Path(path).name: Path(path) for path in json.loads(str(node_config.get("plugins", "[]")))}
    file = Path(whole(step))
    if file.name in own:
        return own[file.name]
    if "mailbox" in node_config and not (node_config.get("same-machine") and _is_ours(file)):
        raise UserError(f"no copy of {file.name} here (--plugin FILE names one)")
    return file


def _is_ours(file: Path) -> bool:
    """Whether it is this user's file, and nobody else may write to it."""
    with refusing(f"{file}"):
        state = file.stat()
    return state.st_uid == os.getuid() and not state.st_mode & 0o002
