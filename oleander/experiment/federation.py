"""The server's side of a run, from its first round to its last, whatever network its clients are in."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import psutil
import torch
from flwr.serverapp import Grid
from torch import Tensor, nn

from oleander.datasets.data import Shard
from oleander.datasets.partition import root_shard
from oleander.experiment.adversary import Attackers
from oleander.experiment.prepare import Setup
from oleander.experiment.recorder import Listener, Recorder
from oleander.experiment.records import MODEL, REPAIRED_MODEL, Repaired, RunFolder, Summary
from oleander.experiment.resume import mend
from oleander.experiment.samples import write_samples
from oleander.learning.devices import gpu_name, prepare_device
from oleander.learning.evaluation import Cores, cores_for
from oleander.learning.parameters import ModelState, arrays_of, load_arrays
from oleander.learning.root import Root
from oleander.learning.training import Hooks, train
from oleander.learning.updates import Update
from oleander.learning.weights import save_model
from oleander.models import build
from oleander.settings.steps import shown
from oleander.system.display import doing
from oleander.system.environment import environment
from oleander.system.errors import RunError
from oleander.system.machine import cpu_count
from oleander.transport.roster import Roster, SimulatedRoster
from repairs import repaired
from strategies import RuleError, Server
from strategies.flower import PipelineStrategy


def federate(
    grid: Grid,
    setup: Setup,
    folder: RunFolder,
    listener: Listener,
    *,
    roster: Roster | None = None,
    clients_are_here: bool = False,
    began: float | None = None,
    failed: Callable[[Exception], None] = lambda error: None,
) -> Summary:
    """Run all rounds that are not done yet, record each as it ends, and write the final model.

    Args:
        grid: Flower's way to the clients.
        setup: the run.
        folder: where its records go.
        listener: is told how it goes on.
        roster: knows which nodes are clients (default: those of the simulation engine).
        clients_are_here: whether clients train on this machine's cores, so that evaluation keeps to those they leave idle.
        began: when the run began, in seconds since the epoch (default: when this process did).
        failed: is told of an error before the scores of the round before are waited for; it may end the process meanwhile.

    Raises:
        RunError: a bad reply, too few clients for the rule, or an aggregate that overflows.
    """
    experiment = setup.experiment
    device = prepare_device(threads=1)  # evaluation takes whole batches to each core
    about = environment(str(device), gpu_name(), cpu_count())
    done = 0
    if setup.standing is None:
        folder.write_settings(experiment, about, setup.target_class)
        write_samples(folder.path, setup)
    else:
        done = setup.standing.round
        listener.went_on(done, experiment.clients_per_round)
        changed = folder.note_resumption(done, about)
        if changed:
            listener.say(
                f"the run goes on with another {', '.join(changed)} than it began with: its last bits may differ"
            )
    mend(folder.path, setup.standing)
    cores = cores_for(device)
    watcher = _Watch(
        listener, cores if clients_are_here and device.type == "cpu" else None, experiment.client_threads or 1
    )
    server = server_of(setup, device)
    remembered = setup.standing.memory if setup.standing else {}
    attackers = Attackers(experiment, setup.attack, remembered)
    strategy = PipelineStrategy(
        experiment,
        setup.pipeline,
        setup.layout,
        setup.start.state,
        setup.shard_sizes,
        client_config(setup),
        watcher,
        roster or SimulatedRoster(experiment),
        done,
        server=server,
        adversary=attackers,
        memory=remembered,
    )
    recorder = Recorder(setup, strategy, folder, listener, device, cores, attackers)
    try:
        strategy.start(
            grid, strategy.initial_arrays(), num_rounds=experiment.rounds - done, timeout=experiment.round_timeout,
            evaluate_fn=recorder.score_round,
        )  # fmt: skip
    except Exception as error:
        failed(error)
        raise
    finally:
        recorder.close()  # a round whose clients failed leaves the one before it on record
    recorder.write_last()
    sha256 = save_model(folder.path / MODEL, setup.layout, strategy.state)
    voted = recorder.vote_of(setup.pipeline.voters(strategy.state, experiment.seed))
    after = None
    if setup.repairs:
        with doing(f"repairing the model ({shown(experiment.repair)})"):
            after = _repaired(setup, folder, recorder, server)
    return recorder.summary(sha256, began or psutil.Process().create_time(), after, voted)


def _repaired(setup: Setup, folder: RunFolder, recorder: Recorder, server: Server) -> Repaired:
    """Repair the final model, score it, and write it beside the one that came out of the rounds."""
    began = time.monotonic()
    try:
        model = repaired(recorder.strategy.state, setup.repairs, server)
    except RuleError as error:
        raise RunError(f"--repair {setup.experiment.repair}: {error}") from None
    if not (np.isfinite(model.weights).all() and np.isfinite(model.statistics).all()):
        raise RunError(f"--repair {setup.experiment.repair}: the repaired model has values that are not finite")
    with doing("scoring the repaired model", "images"):
        scores = recorder.scores_of(model)
    sha256 = save_model(folder.path / REPAIRED_MODEL, setup.layout, model)
    assert scores.mta is not None and scores.loss is not None
    seconds = time.monotonic() - began
    return Repaired(scores.mta, scores.asr, scores.loss, sha256, seconds, scores.robust_accuracy)


def client_config(setup: Setup) -> dict[str, str]:
    """What every client is sent beside the model and the round."""
    return {
        "experiment": setup.experiment.to_json(),
        "dataset-directory": str(setup.dataset.directory),
        "dataset-fingerprint": setup.dataset.fingerprint,
        "dataset-stamp": setup.dataset.stamp,
    }


def server_of(setup: Setup, device: torch.device) -> Server:
    """What the server has besides its clients' replies, and the strategy's steps ask for."""
    experiment, layout, asks = setup.experiment, setup.layout, setup.asks

    def model_of(state: ModelState) -> nn.Module:
        model = (
            build(experiment.model, len(setup.dataset.classes), setup.dataset.image, experiment.norm)
            .to(device)
            .to(memory_format=torch.channels_last)
        )
        load_arrays(model, layout.unflatten(state))
        return model.eval()

    def answers(state: ModelState, pixels: Tensor) -> Tensor:
        with torch.inference_mode():
            return model_of(state)(setup.dataset.image.normalise(pixels.to(device))).float().cpu()

    def trained(start: ModelState, shard: Shard, round_number: int, **settings: Any) -> Update:
        model = model_of(start)
        fitted(model, shard, round_number, **settings)
        end = layout.flatten(arrays_of(model))
        return Update(
            shard.client_id, end.weights - start.weights, end.statistics - start.statistics, len(shard.labels)
        )

    def fitted(model: nn.Module, shard: Shard, round_number: int, hooks: Sequence[Hooks] = (), **settings: Any) -> None:
        train(model, shard, experiment.changed(**settings), round_number, hooks=hooks)

    return Server(
        experiment.seed,
        layout,
        Root(root_shard(setup.dataset, experiment), trained, fitted) if "root" in asks else None,
        answers if "answers" in asks else None,
        setup.dataset.image,
        model_of if "module" in asks else None,
    )


class _Watch:
    """Passes on how the round goes, and leaves to evaluation the cores that its clients do not use."""

    def __init__(self, listener: Listener, cores: Cores | None, threads: int) -> None:
        self.round_began, self.client_done, self._told = (
            listener.round_began,
            listener.client_done,
            listener.waiting_for,
        )
        self._cores, self._threads = cores, threads

    def waiting_for(self, clients: int) -> None:
        self._told(clients)
        if self._cores is not None:
            self._cores.busy(clients * self._threads)
