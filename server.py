"""The server's side of a run: the rounds, their scores and their records. Flower's ServerApp is at the bottom.

``simulate.py`` runs it in Flower's simulation engine; ``flwr run .`` runs the app below with the same flags.
"""

import shlex
import time
from typing import Protocol

import psutil
import torch
from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp

from experiment.cli import parse
from experiment.prepare import Setup, prepare
from experiment.records import RoundRecord, RunFolder, Summary, detection_rates, environment
from experiment.report import ProgressListener, console_on, finish, notice
from experiment.samples import write_samples
from learning.devices import cpu_count, gpu_name, prepare_device
from learning.evaluation import Scores, evaluate
from learning.parameters import load_arrays
from learning.resnet import ResNet18Light
from learning.weights import save_model
from strategies.flower import PipelineStrategy, RoundOutcome, Watcher


class Listener(Watcher, Protocol):
    """A watcher that is shown the finished rounds too."""

    def round_finished(self, record: RoundRecord) -> None:
        """A round's record is on disk; round 0 is the starting model's."""


def federate(grid: Grid, setup: Setup, folder: RunFolder, listener: Listener) -> Summary:
    """Run all rounds, record each as it ends, and write the final model and the summary.

    Raises:
        RunError: a bad reply, too few clients for the rule, or an aggregate that overflows.
    """
    experiment = setup.experiment
    device = prepare_device(cpu_count())
    folder.write_settings(experiment, environment(str(device), gpu_name(), cpu_count()))
    write_samples(folder.path, setup)
    strategy = PipelineStrategy(
        experiment, setup.pipeline, setup.layout, setup.start.state, setup.shard_sizes, _client_config(setup), listener
    )
    recorder = _Recorder(setup, strategy, folder, listener, device)
    strategy.start(
        grid, strategy.initial_arrays(), num_rounds=experiment.rounds, timeout=experiment.round_timeout,
        evaluate_fn=recorder.score_round,
    )  # fmt: skip
    sha256 = save_model(folder.path / "model.safetensors", setup.layout, strategy.state)
    return recorder.summary(sha256)


def _client_config(setup: Setup) -> dict[str, str]:
    """What every client is sent beside the model and the round."""
    return {
        "experiment": setup.experiment.to_json(),
        "dataset-directory": str(setup.dataset.directory),
        "dataset-fingerprint": setup.dataset.fingerprint,
    }


class _Recorder:
    """Scores the global model after each round and keeps the records."""

    def __init__(
        self, setup: Setup, strategy: PipelineStrategy, folder: RunFolder, listener: Listener, device: torch.device
    ) -> None:
        self.setup, self.strategy, self.folder, self.listener, self.device = setup, strategy, folder, listener, device
        self.model = ResNet18Light(len(setup.dataset.classes)).to(device)
        self.records: list[RoundRecord] = []

    def score_round(self, round_number: int, _arrays: ArrayRecord) -> MetricRecord | None:
        """Evaluate the global model and record the round; Flower calls it before round 1 and after each round."""
        began = time.perf_counter()
        load_arrays(self.model, self.setup.layout.unflatten(self.strategy.state))
        dataset = self.setup.dataset
        scores = evaluate(
            self.model,
            dataset.test_images,
            dataset.test_labels,
            self.setup.attack.trigger,
            self.setup.experiment.target,
        )
        record = self._record(round_number, scores, time.perf_counter() - began)
        self.records.append(record)
        self.folder.append(record)
        self.listener.round_finished(record)
        return None

    def _record(self, round_number: int, scores: Scores, evaluation_seconds: float) -> RoundRecord:
        outcome = self.strategy.outcome or RoundOutcome(0, [], {}, [], [], [], [], 0)
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
            seconds={**outcome.seconds, "evaluate": evaluation_seconds},
        )

    def summary(self, model_sha256: str) -> Summary:
        """The run in one object."""
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
            start=self.setup.start.origin,
            dataset_sha256=self.setup.dataset.fingerprint,
            device=str(self.device),
            seconds=self._seconds(),
        )

    def _seconds(self) -> dict[str, float]:
        """Wall time since the process began, by phase."""
        began = psutil.Process().create_time()
        phases = {
            phase: sum(record.seconds.get(phase, 0.0) for record in self.records)
            for phase in ("train", "aggregate", "evaluate")
        }
        startup = self.strategy.first_sent_at - began - self.records[0].seconds["evaluate"]
        total = time.time() - began
        return {"total": total, "startup": startup, **phases, "other": total - startup - sum(phases.values())}


app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run what ``flwr run . -c 'scenario="dba" flags="--seed 1"'`` asks for."""
    flags = shlex.split(str(context.run_config["flags"]))
    experiment = parse(["--scenario", str(context.run_config["scenario"]), *flags])
    console = console_on()
    setup = prepare(experiment, lambda text: notice(console, text))
    folder = RunFolder.of(experiment)
    finish(console, folder, federate(grid, setup, folder, ProgressListener(console, setup)))
