"""What a person sees: the progress of a run, its table at the end, and the list of what there is to run."""

import time
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from attacks import known_attacks
from experiment.cli import known_scenarios, load_scenario
from experiment.errors import RunError, UserError
from experiment.prepare import Setup
from experiment.records import RoundRecord, RunFolder, Summary, read_rounds
from strategies import is_filter, known_strategies

WIDTH_WHEN_PIPED = 126


def console_on(file: TextIO | None = None, *, stderr: bool = False) -> Console:
    """A console that wraps at the terminal's width, or at a fixed one where there is none."""
    console = Console(file=file, stderr=stderr, highlight=False)
    if not console.is_terminal:
        console = Console(file=file, stderr=stderr, highlight=False, width=WIDTH_WHEN_PIPED)
    return console


class ProgressListener:
    """Shows how a run goes on: a live bar in a terminal, and a line for each finished round everywhere."""

    def __init__(self, console: Console, setup: Setup) -> None:
        """Watch a run of this setup."""
        experiment = setup.experiment
        self.console = console
        self.rounds = experiment.rounds
        self.progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("clients"),
            TextColumn("{task.fields[rate]}"), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
            console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip
        total = experiment.rounds * experiment.clients_per_round
        self.task = self.progress.add_task("starting", total=total, rate="")
        self.images, self.began = 0, time.monotonic()

    def round_began(self, round_number: int, client_ids: list[int]) -> None:
        """Show which clients are training."""
        self.began, self.images = time.monotonic(), 0
        names = ", ".join(map(str, client_ids[:12])) + (" …" if len(client_ids) > 12 else "")
        self.progress.update(self.task, description=f"round {round_number}/{self.rounds}: clients {names}")

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
        left_out = "".join(f"\n  client {d['client']} was left out: {escape(d['cause'])}" for d in record.dropped)
        self.console.print(
            f"{what}  MTA {_percent(record.mta)}  ASR {_percent(record.asr)}  ({seconds:.1f} s{rate}){left_out}"
        )
        if record.round == 0:
            self.progress.update(self.task, description="starting the clients' processes")


def print_list(console: Console) -> None:
    """All scenarios, attacks and strategies, a line each."""
    console.print("[bold]Scenarios[/]  python simulate.py --scenario NAME (or PATH.toml), any flag over it")
    scenarios = {name: load_scenario(name).description for name in known_scenarios()}
    attacks = {"none": "Malicious clients there are none."} | {n: p.summary for n, p in known_attacks().items()}
    filters = {n: p.summary for n, p in known_strategies().items() if is_filter(p)}
    rules = {n: p.summary for n, p in known_strategies().items() if not is_filter(p)}
    console.print(_two_columns(scenarios))
    console.print("\n[bold]Attacks[/]  --attack NAME, steps joined by + (dba+scaling)")
    console.print(_two_columns(attacks))
    console.print("\n[bold]Strategies[/]  --strategy NAME; filters before the rule, joined by + (clip+krum)")
    console.print(_two_columns(rules | {f"{n} (filter)": s for n, s in filters.items()}))
    console.print("\nEvery setting is a flag: python simulate.py --help")


def finish(console: Console, folder: RunFolder, summary: Summary) -> None:
    """Draw the figures, write the summary and print the table of a run whose rounds are done."""
    from experiment.plots import draw_figures  # matplotlib is slow to import, and nothing before needs it

    folder.write_summary(summary)
    draw_figures(folder.path, summary)
    print_results(console, folder, summary)


def print_results(console: Console, folder: RunFolder, summary: Summary, clients_shown: int = 12) -> None:
    """The run's table, from its records, and where the folder is."""
    rounds = read_rounds(folder.path)
    table = Table(title=_title(summary), title_justify="left", title_style="bold", header_style="bold")
    for name in ("round", "MTA", "ASR"):
        table.add_column(name, justify="right")
    table.add_column("clients: update norm, influence (malicious in red, *)")
    for record in rounds:
        number = "start" if record.round == 0 else str(record.round)
        table.add_row(number, _percent(record.mta), _percent(record.asr), _clients(record, clients_shown))
    console.print()
    console.print(table)
    for line in _closing_lines(summary):
        console.print(line)
    console.print(f"results in [bold]{escape(str(folder.path))}[/]")


def notice(console: Console, text: str) -> None:
    """A notice that nobody can miss."""
    console.print(Panel(escape(text), title="[bold]NOTICE[/]", border_style="bold yellow"))


def _title(summary: Summary) -> str:
    attackers = f"{len(summary.malicious)} malicious" if summary.malicious else "no malicious client"
    return (
        f"{escape(summary.scenario)}: attack {summary.attack} ({attackers}), strategy {summary.strategy}, "
        f"dataset {escape(summary.dataset)}, augment {summary.augment}, seed {summary.seed}"
    )


def _closing_lines(summary: Summary) -> list[str]:
    lines = [
        f"MTA {_percent(summary.mta)} (baseline {_percent(summary.baseline_mta)})   "
        f"ASR {_percent(summary.asr)} (baseline {_percent(summary.baseline_asr)})   start: {escape(summary.start)}"
    ]
    if summary.true_positive_rate is not None and summary.strategy != "fedavg":
        lines.append(
            f"the defence left out {_percent(summary.true_positive_rate)} of the malicious updates "
            f"and {_percent(summary.false_positive_rate)} of the benign ones"
        )
    seconds = "  ".join(f"{phase} {value:.1f}" for phase, value in summary.seconds.items())
    return [*lines, f"seconds: {seconds}", f"model sha256 {summary.model_sha256}"]


def _clients(record: RoundRecord, shown: int) -> str:
    cells = []
    rows = zip(
        record.client_ids, record.malicious, record.norms_before, record.norms_after, record.influence, strict=True
    )
    for client, malicious, before, after, influence in rows:
        norm = f"{before:.2f}" if after == before else f"{before:.2f}→{after:.2f}"
        text = f"{client}{'*' if malicious else ''}: {norm}, {influence:.2f}"
        cells.append(f"[red]{text}[/]" if malicious else text)
    cells += [f"[yellow]{d['client']}: left out[/]" for d in record.dropped]
    more = f"  … and {len(cells) - shown} more" if len(cells) > shown else ""
    return "   ".join(cells[:shown]) + more


def _two_columns(rows: dict[str, str]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column()
    for name, text in rows.items():
        table.add_row(f"  {escape(name)}", escape(text))
    return table


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def error_line(error: BaseException, folder: Path | None = None) -> str:
    """An error in one line, for the terminal; for what nobody foresaw, with where to read more."""
    if isinstance(error, UserError | RunError):
        where = f"; finished rounds are in {folder}" if folder else ""
        return f"[bold red]error:[/] {escape(str(error))}{escape(where)}"
    return f"[bold red]error:[/] unexpected {type(error).__name__}: {escape(str(error))}; the traceback is in {folder}/log.txt"
