"""What a person sees while runs go on: what is being done and how far it is, and a line for each finished round or run."""

import time

from rich.console import Console
from rich.markup import escape

from oleander.experiment.records import RoundRecord, Summary
from oleander.settings.config import Experiment
from oleander.settings.sweeps import varied
from oleander.system.console import notice, percent
from oleander.system.display import Display, Step, Whole
from oleander.system.numbers import count

STARTING = "starting the clients' processes"


class ProgressListener:
    """Shows how a run goes on: live in a terminal, and a line for each finished round everywhere."""

    def __init__(self, console: Console, experiment: Experiment, display: Display | None = None) -> None:
        """Watch a run of these settings, on this display (default: one of its own)."""
        self.console = console
        self.rounds = experiment.rounds
        self.display = display or Display(console)
        self.whole = Whole(experiment.rounds * experiment.clients_per_round, "clients")
        self.step: Step | None = None
        self.images, self.began = 0, time.monotonic()

    def starting(self, what: str = STARTING) -> None:
        """Say what is done before the first round."""
        self._now(Step(what, owner=self))

    def went_on(self, rounds: int, clients: int) -> None:
        """So many rounds, of so many clients each, were done before."""
        self.whole.done = self.whole.before = rounds * clients

    def round_began(self, round_number: int, client_ids: list[int]) -> None:
        """Show which clients are training."""
        self.began, self.images = time.monotonic(), 0
        self.whole.timed_from = self.whole.timed_from or self.began
        self.display.whole = self.whole
        names = ", ".join(map(str, client_ids[:12])) + (" …" if len(client_ids) > 12 else "")
        text = f"{self._run()}round {round_number}/{self.rounds}: training clients {names}"
        self._now(Step(text, owner=self, total=len(client_ids)))

    def client_done(self, client_id: int, images: int) -> None:
        """Count a client and its images."""
        self.images += images
        self.whole.add(1)
        self.whole.rate = f"{self.images / max(time.monotonic() - self.began, 1e-6):,.0f} images/s"
        if self.step:
            self.step.done += 1

    def waiting_for(self, clients: int) -> None:
        """So many of the round's clients have yet to answer; when none has, training is over."""
        if not clients:
            self._now(None)

    def round_finished(self, record: RoundRecord) -> None:
        """Print the round's scores."""
        what = "start  " if record.round == 0 else f"round {record.round}/{self.rounds}"
        seconds = sum(record.seconds.values())
        rate = f", {record.images / record.seconds['train']:.0f} images/s" if record.images else ""
        self.console.print(
            f"{what}  MTA {percent(record.mta)}  ASR {percent(record.asr)}  ({seconds:.1f} s{rate}){_left_out(record)}"
        )

    def say(self, text: str) -> None:
        """A notice."""
        notice(self.console, text)

    def over(self) -> None:
        """The rounds are over."""
        self._now(None)
        self.display.whole = None

    def _now(self, step: Step | None) -> None:
        if self.step:
            self.display.remove(self.step)
        self.step = step
        if step:
            self.display.add(step, aloud=not step.total)

    def _run(self) -> str:
        return ""


class StudyListener(ProgressListener):
    """Shows how a study goes on: one bar over all its runs, and a line for each finished run."""

    def __init__(
        self, console: Console, experiments: list[Experiment], done: int, display: Display | None = None
    ) -> None:
        """Watch these runs, of which so many were finished before."""
        super().__init__(console, experiments[0], display)
        self.runs, self.run = len(experiments), done
        self.varied = {
            scenario: varied([e for e in experiments if e.scenario == scenario]) or ["attack", "strategy"]
            for scenario in {e.scenario for e in experiments}
        }
        work = [e.rounds * e.clients_per_round for e in experiments]
        finished = sum(work[:done])
        self.whole = Whole(sum(work), "clients", done=finished, before=finished)
        known = f", {done} of them finished before" if done else ""
        console.print(f"{count(self.runs, 'run')}{known}")

    def run_began(self, experiment: Experiment) -> "RunOfStudy":
        """The next run; what it gives watches it."""
        self._now(None)
        self.run += 1
        self.display.whole = self.whole
        return RunOfStudy(self, experiment)


class RunOfStudy(ProgressListener):
    """Shows how one of a study's runs goes on, beside others."""

    def __init__(self, study: StudyListener, experiment: Experiment) -> None:
        """The run that has just begun."""
        super().__init__(study.console, experiment, study.display)
        self.study, self.number, self.whole = study, study.run, study.whole
        self.experiment, self.run_began_at = experiment, time.monotonic()

    def went_on(self, rounds: int, clients: int) -> None:
        """So many rounds of the run were done before."""
        self.whole.add(rounds * clients, before=True)

    def round_finished(self, record: RoundRecord) -> None:
        """Only what is out of the ordinary; the run's line comes at its end."""
        self.display.aloud = False  # from here on the runs' own lines say how it goes on
        if record.dropped:
            self.console.print(f"run {self.number}/{self.study.runs}, round {record.round}{_left_out(record)}")

    def finished(self, summary: Summary) -> None:
        """Print the run's line."""
        self._now(None)
        scenario, known = self.experiment.scenario, self.study.varied
        used = self.experiment.settings()
        settings = ", ".join(f"{name} {used[name]}" for name in known[scenario] if name in used)
        of = f"{scenario}: " if len(known) > 1 else ""
        self.console.print(
            f"run {self.number}/{self.study.runs}  MTA {percent(summary.mta)}  ASR {percent(summary.asr)}  "
            f"({time.monotonic() - self.run_began_at:.0f} s)  {escape(of + settings)}, seed {summary.seed}"
        )

    def _run(self) -> str:
        return f"run {self.number}/{self.study.runs}, "


def _left_out(record: RoundRecord) -> str:
    return "".join(f"\n  client {d['client']} was left out: {escape(d['cause'])}" for d in record.dropped)
