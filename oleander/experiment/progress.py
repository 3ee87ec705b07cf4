"""What a person sees while runs go on: the progress of a run or a study."""

import time

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from oleander.experiment.records import RoundRecord, Summary
from oleander.settings.config import Experiment
from oleander.settings.sweeps import varied
from oleander.system.console import notice, percent


class ProgressListener:
    """Shows how a run goes on: a live bar in a terminal, and a line for each finished round everywhere."""

    def __init__(self, console: Console, experiment: Experiment) -> None:
        """Watch a run of these settings."""
        self.console = console
        self.rounds = experiment.rounds
        self.progress = _progress(console)
        total = experiment.rounds * experiment.clients_per_round
        self.task = self.progress.add_task("starting", total=total, rate="")
        self.images, self.began = 0, time.monotonic()

    def round_began(self, round_number: int, client_ids: list[int]) -> None:
        """Show which clients are training."""
        self.began, self.images = time.monotonic(), 0
        names = ", ".join(map(str, client_ids[:12])) + (" …" if len(client_ids) > 12 else "")
        self.progress.update(self.task, description=f"{self._run()}round {round_number}/{self.rounds}: clients {names}")

    def client_done(self, client_id: int, images: int) -> None:
        """Count a client and its images."""
        self.images += images
        rate = self.images / max(time.monotonic() - self.began, 1e-6)
        self.progress.update(self.task, advance=1, rate=f"{rate:.0f} images/s")

    def round_finished(self, record: RoundRecord) -> None:
        """Print the round's scores."""
        what = "start  " if record.round == 0 else f"round {record.round}/{self.rounds}"
        seconds = sum(record.seconds.values())
        rate = f", {record.images / record.seconds['train']:.0f} images/s" if record.images else ""
        self.console.print(
            f"{what}  MTA {percent(record.mta)}  ASR {percent(record.asr)}  ({seconds:.1f} s{rate}){_left_out(record)}"
        )
        if record.round == 0:
            self.progress.update(self.task, description="starting the clients' processes")

    def say(self, text: str) -> None:
        """A notice."""
        notice(self.console, text)

    def _run(self) -> str:
        return ""


class StudyListener(ProgressListener):
    """Shows how a study goes on: one bar over all its runs, and a line for each finished run."""

    def __init__(self, console: Console, experiments: list[Experiment], done: int) -> None:
        """Watch these runs, of which so many were finished before."""
        super().__init__(console, experiments[0])
        self.runs, self.run = len(experiments), done
        self.varied = {
            scenario: varied([e for e in experiments if e.scenario == scenario]) or ["attack", "strategy"]
            for scenario in {e.scenario for e in experiments}
        }
        work = [e.rounds * e.clients_per_round for e in experiments]
        self.progress.update(self.task, total=sum(work), completed=sum(work[:done]))
        known = f", {done} of them finished before" if done else ""
        console.print(f"{self.runs} runs{known}")

    def run_began(self, experiment: Experiment) -> None:
        """The next run."""
        self.run += 1
        self.rounds, self.experiment, self.run_began_at = experiment.rounds, experiment, time.monotonic()

    def round_finished(self, record: RoundRecord) -> None:
        """Only what is out of the ordinary; the run's line comes at its end."""
        if record.dropped:
            self.console.print(f"run {self.run}/{self.runs}, round {record.round}{_left_out(record)}")

    def run_finished(self, summary: Summary) -> None:
        """Print the run's line."""
        scenario = self.experiment.scenario
        settings = ", ".join(f"{name} {getattr(self.experiment, name)}" for name in self.varied[scenario])
        of = f"{scenario}: " if len(self.varied) > 1 else ""
        self.console.print(
            f"run {self.run}/{self.runs}  MTA {percent(summary.mta)}  ASR {percent(summary.asr)}  "
            f"({time.monotonic() - self.run_began_at:.0f} s)  {escape(of + settings)}, seed {summary.seed}"
        )

    def _run(self) -> str:
        return f"run {self.run}/{self.runs}, "


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("clients"),
        TextColumn("{task.fields[rate]}"), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip


def _left_out(record: RoundRecord) -> str:
    return "".join(f"\n  client {d['client']} was left out: {escape(d['cause'])}" for d in record.dropped)
