"""Scores the global model after each round and keeps the records of a run."""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from flwr.app import ArrayRecord, MetricRecord
from numpy.typing import NDArray

from attacks import Attack
from oleander.datasets.partition import partition
from oleander.experiment.adversary import Attackers
from oleander.experiment.classes import count_classes, write_classes
from oleander.experiment.prepare import Setup
from oleander.experiment.records import Repaired, RoundRecord, RunFolder, Summary, Voted, detection_rates
from oleander.experiment.resume import keep
from oleander.experiment.samples import write_samples
from oleander.learning.evaluation import (
    Answers,
    Classifier,
    Cores,
    Scores,
    classifier,
    drawn_from,
    examine,
    of_other_classes,
)
from oleander.learning.parameters import ModelState, load_arrays
from oleander.learning.remembered import recall_scores, remember_scores, scores_key
from oleander.learning.votes import Poll
from oleander.models import build, identity
from oleander.settings.config import Experiment
from oleander.settings.steps import shown
from oleander.system.display import doing
from oleander.system.machine import return_memory
from oleander.system.streams import generator
from strategies.flower import PipelineStrategy, RoundOutcome


class Listener(Protocol):
    """Is shown the clients of each round and the finished rounds."""

    def round_began(self, round_number: int, client_ids: list[int]) -> None:
        """As ``Watcher``'s."""

    def client_done(self, client_id: int, images: int) -> None:
        """As ``Watcher``'s."""

    def waiting_for(self, clients: int) -> None:
        """As ``Watcher``'s."""

    def went_on(self, rounds: int, clients: int) -> None:
        """So many rounds, of so many clients each, were done before: the run goes on."""

    def round_finished(self, record: RoundRecord) -> None:
        """A round's record is on disk; round 0 is the starting model's."""

    def say(self, text: str) -> None:
        """Something that the user must know."""


def _shown(what: str, score: Callable[..., Scores], *given: Any) -> Scores:
    """Scores, worked out for all to see; without a live display only the start's, since a round has a line of its own."""
    with doing(what, "images", aloud=what == "scoring the start"):
        return score(*given)


def drawn_rows(count: int, experiment: Experiment) -> NDArray[np.int64] | None:
    """Which of so many test images the rounds between the start and the last are scored on, rising; None: all."""
    wanted = experiment.evaluate_images
    if wanted == "all" or wanted >= count:
        return None
    return np.sort(generator(experiment.seed, "scored").choice(count, size=wanted, replace=False))


class Recorder:
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
        attackers: Attackers | None = None,
    ) -> None:
        """``attackers`` know the trigger as it is after a round (default: as it was before the first)."""
        self.attackers = attackers or Attackers(setup.experiment, setup.attack)
        self.cores = cores
        self.setup, self.strategy, self.folder, self.listener, self.device = setup, strategy, folder, listener, device
        e, dataset = setup.experiment, setup.dataset
        self.model = build(e.model, len(dataset.classes), dataset.image, e.norm).to(device)
        self.records: list[RoundRecord] = list(setup.standing.records) if setup.standing else []
        self.earlier = len(self.records)
        self._scoring = ThreadPoolExecutor(1)
        self._answers: Answers | None = None
        """What the last scores of all images were counted from."""
        self._drawn = drawn_rows(len(dataset.test_labels), e)
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
            keep(self.folder.path, round_number, state, outcome, self._kept_with, self.strategy.memory)
        classify = self._classifier_of(state)
        attack, what = self.attackers.attack, f"scoring round {round_number}" if round_number else "scoring the start"
        if round_number == 0:
            scoring = self._scoring.submit(_shown, what, self._baseline, classify, state, attack)
        else:
            scoring = self._scoring.submit(_shown, what, self._scores, round_number, classify, attack)
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
        images, victims = self._scored_on(round_number, scores)
        record = replace(record, scored_images=images, scored_victims=victims)
        self.records.append(record)
        self.folder.append(record)
        self.listener.round_finished(record)
        return_memory()

    def close(self) -> None:
        """Settle, and end the thread that works scores out."""
        self.settle()
        self._scoring.shutdown()

    def _baseline(self, classify: Classifier, state: ModelState, attack: Attack) -> Scores:
        experiment, dataset, victims = self.setup.experiment, self.setup.dataset, self.setup.victims
        key = scores_key(
            state,
            dataset,
            attack.trigger,
            self.setup.target,
            experiment.precision,
            self.device,
            identity(experiment.model, experiment.norm),
            victims,
        )
        known = None if experiment.no_cache else recall_scores(key, self.listener.say)
        scores = known or self._scores(0, classify, attack)
        if not known:
            remember_scores(key, scores)
        return scores

    def _scores(self, round_number: int, classify: Classifier, attack: Attack) -> Scores:
        """``attack`` is taken as the round is handed over: the next one may change its trigger meanwhile."""
        experiment, dataset = self.setup.experiment, self.setup.dataset
        at_an_end = round_number in (0, experiment.rounds)
        if experiment.evaluate == "last" and not at_an_end:
            return Scores(mta=None, asr=None, loss=None)
        wanted = experiment.evaluate_asr == "every" or at_an_end
        trigger, victims = (attack.trigger, self.setup.victims) if wanted else (None, None)
        images, labels = dataset.test_images, dataset.test_labels
        if (rows := self._rows_in(round_number)) is not None:
            images, labels, victims = images[rows], labels[rows], drawn_from(victims, rows)
        scores, answers = examine(
            classify, images, labels, trigger, self.setup.target, self.device, self.cores, victims
        )
        if at_an_end:
            self._answers = answers
        return scores

    def _rows_in(self, round_number: int) -> NDArray[np.int64] | None:
        """Which test images this round is scored on; None: all."""
        return None if round_number in (0, self.setup.experiment.rounds) else self._drawn

    def _scored_on(self, round_number: int, scores: Scores) -> tuple[int | None, int | None]:
        """Of how many clean images, and of how many victims, these scores are; None where there are none."""
        rows, labels = self._rows_in(round_number), self.setup.dataset.test_labels
        victims = self.setup.victims or of_other_classes(labels, self.setup.target)
        if rows is not None:
            labels, victims = labels[rows], drawn_from(victims, rows) or victims
        images = None if scores.mta is None else len(labels)
        return images, None if scores.asr is None else int((victims.wanted >= 0).sum())

    def scores_of(self, state: ModelState) -> Scores:
        """The scores of a model that no round came to, on the same images."""
        return self._scores(self.setup.experiment.rounds, self._classifier_of(state), self.attackers.attack)

    def vote_of(self, models: Iterable[ModelState]) -> Voted | None:
        """The scores of these models' vote at test time; None where there are none."""
        setup, attack, began = self.setup, self.attackers.attack, time.monotonic()
        poll = Poll(setup.dataset, setup.victims, setup.target, setup.experiment.seed)
        for model in models:
            classify = self._classifier_of(model)
            with doing(f"voter {poll.voters + 1}", "images", aloud=False):
                _, answers = examine(
                    classify,
                    poll.images,
                    poll.labels,
                    attack.trigger,
                    setup.target,
                    self.device,
                    self.cores,
                    poll.victims,
                )
            poll.count(answers)
        if not poll.voters:
            return None
        scores, seconds = poll.scores(), time.monotonic() - began
        assert scores.mta is not None
        return Voted(scores.mta, scores.asr, scores.robust_accuracy, poll.voters, len(poll.rows), seconds)

    def write_last(self) -> None:
        """Write what reports say of the final model beside its scores: classes.json, and its answers to samples.npz."""
        setup, state = self.setup, self.strategy.state
        if self._answers is None:  # its scores were on record when the run went on
            self.scores_of(state)
        assert self._answers is not None
        shards = partition(setup.dataset, setup.experiment)
        counts = count_classes(setup.dataset, setup.target, shards, self._answers, setup.victims)
        write_classes(self.folder.path, counts)
        now = replace(setup, attack=self.attackers.attack)  # with the trigger as it is now
        write_samples(self.folder.path, now, self._classifier_of(state), str(self.device))

    def _classifier_of(self, state: ModelState) -> Classifier:
        load_arrays(self.model, self.setup.layout.unflatten(state))
        return classifier(self.model, self.setup.experiment.precision, self.setup.dataset.image)

    def _record(
        self, round_number: int, outcome: RoundOutcome, scores: Scores, evaluation_seconds: float
    ) -> RoundRecord:
        attackers = self.setup.experiment.attackers_in(round_number)
        return RoundRecord(
            round=round_number,
            mta=scores.mta,
            asr=scores.asr,
            loss=scores.loss,
            client_ids=outcome.client_ids,
            malicious=[client in attackers for client in outcome.client_ids],
            norms_before=outcome.norms_before,
            norms_after=outcome.norms_after,
            influence=outcome.influence,
            train_losses=[*outcome.losses],
            dropped=[{"client": client, "cause": cause} for client, cause in outcome.dropped.items()],
            clamped_variances=outcome.clamped_variances,
            images=outcome.images,
            seconds={**outcome.seconds, "evaluate": evaluation_seconds},
            cosines=[*outcome.cosines],
            robust_accuracy=scores.robust_accuracy,
        )

    @property
    def _about(self) -> dict[str, str]:
        return {"start": self.setup.start.origin, "dataset_sha256": self.setup.dataset.fingerprint}

    @property
    def _kept_with(self) -> dict[str, str]:
        return self._about | {"trigger_sha256": self.setup.trigger_sha256}

    def summary(
        self, model_sha256: str, began: float, repaired: Repaired | None = None, voted: Voted | None = None
    ) -> Summary:
        """The run in one object; ``began`` is when this process took it up, in seconds since the epoch."""
        experiment, first, last = self.setup.experiment, self.records[0], self.records[-1]
        assert first.mta is not None and last.mta is not None  # whatever --evaluate says
        true_positives, false_positives = detection_rates(self.records)
        return Summary(
            scenario=experiment.scenario,
            strategy=self.setup.pipeline.name,
            attack=shown(experiment.attack),
            dataset=self.setup.dataset.name,
            seed=experiment.seed,
            augment=experiment.augment,
            malicious=list(experiment.malicious_clients),
            mta=last.mta,
            asr=last.asr,
            baseline_mta=first.mta,
            baseline_asr=first.asr,
            true_positive_rate=true_positives,
            false_positive_rate=false_positives,
            model_sha256=model_sha256,
            **self._about,
            test_images=len(self.setup.dataset.test_labels),
            device=str(self.device),
            seconds=self._seconds(began),
            repair=shown(experiment.repair),
            repaired=repaired,
            target_class=self.setup.target_class,
            robust_accuracy=last.robust_accuracy,
            voted=voted,
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
