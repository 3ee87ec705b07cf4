"""The server's side of a run: the rounds, their scores and their records. Flower's ServerApp is at the bottom.

``simulate.py`` runs it in Flower's simulation engine; ``flwr run .`` runs the app below with the same flags.
"""

import shlex
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import psutil
import torch
from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp

from experiment.cli import parse
from experiment.machine import cpu_count
from experiment.prepare import Setup, Sources, prepare
from experiment.records import RoundRecord, RunFolder, Summary, detection_rates, environment
from experiment.report import ProgressListener, console_on, finish_run, notice, print_results
from experiment.resume import keep, mend
from experiment.samples import write_samples
from learning.devices import gpu_name, prepare_device
from learning.evaluation import Classifier, Cores, Scores, classifier, cores_for, evaluate
from learning.parameters import ModelState, load_arrays
from learning.remembered import recall, remember, scores_key
from learning.resnet import ResNet18Light
from learning.weights import save_model
from strategies.flower import PipelineStrategy, RoundOutcome


class Listener(Protocol):
    """Is shown the clients of each round and the finished rounds."""

    def round_began(self, round_number: int, client_ids: list[int]) -> None:
        """As ``Watcher``'s."""

    def client_done(self, client_id: int, images: int) -> None:
        """As ``Watcher``'s."""

    def round_finished(self, record: RoundRecord) -> None:
        """A round's record is on disk; round 0 is the starting model's."""

    def say(self, text: str) -> None:
        """Something that the user must know."""


def federate(
    grid: Grid,
    setup: Setup,
    folder: RunFolder,
    listener: Listener,
    *,
    clients_are_here: bool = False,
    began: float | None = None,
) -> Summary:
    """Run all rounds that are not done yet, record each as it ends, and write the final model.

    Args:
        grid: Flower's way to the clients.
        setup: the run.
        folder: where its records go.
        listener: is told how it goes on.
        clients_are_here: whether clients train on this machine's cores, so that evaluation keeps to those they leave idle.
        began: when the run began, in seconds since the epoch (default: when this process did).

    Raises:
        RunError: a bad reply, too few clients for the rule, or an aggregate that overflows.
    """
    experiment = setup.experiment
    device = prepare_device(threads=1)  # evaluation takes whole batches to each core
    about = environment(str(device), gpu_name(), cpu_count())
    done = 0
    if setup.standing is None:
        folder.write_settings(experiment, about)
        write_samples(folder.path, setup)
    else:
        done = setup.standing.round
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
    strategy = PipelineStrategy(
        experiment,
        setup.pipeline,
        setup.layout,
        setup.start.state,
        setup.shard_sizes,
        _client_config(setup),
        watcher,
        done,
    )
    recorder = _Recorder(setup, strategy, folder, listener, device, cores)
    try:
        strategy.start(
            grid, strategy.initial_arrays(), num_rounds=experiment.rounds - done, timeout=experiment.round_timeout,
            evaluate_fn=recorder.score_round,
        )  # fmt: skip
    finally:
        recorder.settle()  # a round whose clients failed leaves the one before it on record
    sha256 = save_model(folder.path / "model.safetensors", setup.layout, strategy.state)
    return recorder.summary(sha256, began or psutil.Process().create_time())


def _client_config(setup: Setup) -> dict[str, str]:
    """What every client is sent beside the model and the round."""
    return {
        "experiment": setup.experiment.to_json(),
        "dataset-directory": str(setup.dataset.directory),
        "dataset-fingerprint": setup.dataset.fingerprint,
    }


class _Watch:
    """Passes on how the round goes, and leaves to evaluation the cores that its clients do not use."""

    def __init__(self, listener: Listener, cores: Cores | None, threads: int) -> None:
        self.round_began, self.client_done = listener.round_began, listener.client_done
        self._cores, self._threads = cores, threads

    def waiting_for(self, clients: int) -> None:
        if self._cores is not None:
            self._cores.busy(clients * self._threads)


class _Recorder:
    """Scores the global model after each round and keeps the records.

    A round is scored while the next one trains, on cores that its clients leave idle, and what is left of it when those
    are done, on all cores. Its record is written before the next round's aggregate is scored.
    """

    def __init__(
        self,
        setup: Setup,
        strategy: PipelineStrategy,
        folder: RunFolder,
        listener: Listener,
        device: torch.device,
        cores: Cores,
    ) -> None:
        self.cores = cores
        self.setup, self.strategy, self.folder, self.listener, self.device = setup, strategy, folder, listener, device
        self.model = ResNet18Light(len(setup.dataset.classes)).to(device)
        self.records: list[RoundRecord] = list(setup.standing.records) if setup.standing else []
        self.earlier = len(self.records)
        self._scoring = ThreadPoolExecutor(1)
        self._pending: tuple[int, RoundOutcome, Future[Scores]] | None = None

    def score_round(self, rounds_here: int, _arrays: ArrayRecord) -> MetricRecord | None:
        """Begin to score the global model; Flower calls it before the first round and after each."""
        self.settle()
        round_number, state = self.strategy.rounds_done + rounds_here, self.strategy.state
        outcome = self.strategy.outcome
        if rounds_here == 0 and self.setup.standing:
            if len(self.records) > round_number:
                return None  # on record
            outcome = self.setup.standing.outcome
        else:
            keep(self.folder.path, round_number, state, outcome, self._about)
        load_arrays(self.model, self.setup.layout.unflatten(state))
        classify = classifier(self.model, self.setup.experiment.precision)
        if round_number == 0:
            scoring = self._scoring.submit(self._baseline, classify, state)
        else:
            scoring = self._scoring.submit(self._scores, round_number, classify)
        self._pending = round_number, outcome or RoundOutcome(0, [], {}, [], [], [], [], 0, 0), scoring
        if round_number == self.setup.experiment.rounds:
            self.settle()
        return None

    def settle(self) -> None:
        """Wait for the scores that are being worked out, and record their round."""
        if self._pending is None:
            return
        round_number, outcome, scoring = self._pending
        self._pending = None
        self.cores.busy(0)
        began = time.perf_counter()
        scores = scoring.result()
        record = self._record(round_number, outcome, scores, time.perf_counter() - began)
        self.records.append(record)
        self.folder.append(record)
        self.listener.round_finished(record)

    def _baseline(self, classify: Classifier, state: ModelState) -> Scores:
        experiment, dataset = self.setup.experiment, self.setup.dataset
        key = scores_key(
            state, dataset, self.setup.attack.trigger, experiment.target, experiment.precision, self.device
        )
        known = None if experiment.no_cache else recall(key)
        scores = known or self._scores(0, classify)
        if not known:
            remember(key, scores)
        return scores

    def _scores(self, round_number: int, classify: Classifier) -> Scores:
        experiment, dataset = self.setup.experiment, self.setup.dataset
        wanted = experiment.evaluate_asr == "every" or round_number in (0, experiment.rounds)
        trigger = self.setup.attack.trigger if wanted else None
        images, labels = dataset.test_images, dataset.test_labels
        return evaluate(classify, images, labels, trigger, experiment.target, self.device, self.cores)

    def _record(
        self, round_number: int, outcome: RoundOutcome, scores: Scores, evaluation_seconds: float
    ) -> RoundRecord:
        return RoundRecord(
            round=round_number,
            mta=scores.mta,
            asr=scores.asr,
            loss=scores.loss,
            client_ids=outcome.client_ids,
            malicious=[client < self.setup.experiment.malicious for client in outcome.client_ids],
            norms_before=outcome.norms_before,
            norms_after=outcome.norms_after,
            influence=outcome.influence,
            train_losses=outcome.losses,
            dropped=[{"client": client, "cause": cause} for client, cause in outcome.dropped.items()],
            clamped_variances=outcome.clamped_variances,
            images=outcome.images,
            seconds={**outcome.seconds, "evaluate": evaluation_seconds},
        )

    @property
    def _about(self) -> dict[str, str]:
        return {"start": self.setup.start.origin, "dataset_sha256": self.setup.dataset.fingerprint}

    def summary(self, model_sha256: str, began: float) -> Summary:
        """The run in one object; ``began`` is when this process took it up, in seconds since the epoch."""
        experiment, first, last = self.setup.experiment, self.records[0], self.records[-1]
        true_positives, false_positives = detection_rates(self.records)
        return Summary(
            scenario=experiment.scenario,
            strategy=self.setup.pipeline.name,
            attack=experiment.attack,
            dataset=self.setup.dataset.name,
            seed=experiment.seed,
            augment=experiment.augment,
            malicious=list(range(experiment.malicious)),
            mta=last.mta,
            asr=last.asr,
            baseline_mta=first.mta,
            baseline_asr=first.asr,
            true_positive_rate=true_positives,
            false_positive_rate=false_positives,
            model_sha256=model_sha256,
            **self._about,
            device=str(self.device),
            seconds=self._seconds(began),
        )

    def _seconds(self, began: float) -> dict[str, float]:
        """Wall time of the run by phase, what a process before a resumption spent on finished rounds included.

        Evaluation that training hid is part of training.
        """
        phases = {
            phase: sum(record.seconds.get(phase, 0.0) for record in self.records)
            for phase in ("train", "aggregate", "evaluate")
        }
        before = sum(sum(record.seconds.values()) for record in self.records[: self.earlier])
        standing = self.setup.standing
        if standing and standing.outcome and self.earlier <= standing.round:  # trained before, scored here
            before += sum(standing.outcome.seconds.values())
        startup = max(self.strategy.training_began_at - began, 0.0)
        total = time.time() - began + before
        return {"total": total, "startup": startup, **phases, "other": total - startup - sum(phases.values())}


app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run what ``flwr run . -c 'scenario="dba" flags="--seed 1"'`` asks for."""
    flags = shlex.split(str(context.run_config["flags"]))
    experiment = parse(["--scenario", str(context.run_config["scenario"]), *flags])
    console = console_on()
    setup = prepare(experiment, Sources(lambda text: notice(console, text)))
    folder = RunFolder.of(experiment)
    summary = federate(grid, setup, folder, ProgressListener(console, setup.experiment))
    finish_run(folder, summary)
    print_results(console, folder.path, summary)
    folder.release()
