"""What a person reads: the table of a run or a study."""

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from oleander.experiment.intervals import p_shown, shown, signs_of
from oleander.experiment.records import (
    CONFIG,
    REPORT,
    Repaired,
    RoundRecord,
    RunFolder,
    Summary,
    Voted,
    left_no_model,
    read_rounds,
    settings_of,
)
from oleander.experiment.results import columns_of, finished, write_runs
from oleander.experiment.study import Runs, StudyResult, besides, has_page
from oleander.reports.aside import Draw, draw_run
from oleander.reports.differences import SCORES, Difference, differences_of, write_differences
from oleander.reports.headings import run_line
from oleander.reports.paper import write_tables
from oleander.reports.verdict import caveats_of_run, caveats_of_study, study_verdict, verdict
from oleander.settings.plan import Chart
from oleander.settings.threats import threat_model
from oleander.system.console import percent
from oleander.system.display import clear_display, doing
from oleander.system.foreign import plain

LONGEST_WORD = 12
"""Characters of a word that stay together in a table."""


def finish_run(folder: RunFolder, summary: Summary, of: int = 1, draw: Draw = draw_run) -> None:
    """Draw the figures and write page, summary and tables of a run whose rounds are done; with --keep none its model goes.

    Args:
        folder: the run's.
        summary: what it came to.
        of: how many runs its study has; of many, ``--pages auto`` draws none.
        draw: draws the figures and writes the page.
    """
    experiment = settings_of(folder.path)
    if has_page(experiment.pages, of):
        draw(folder.path, summary)
    folder.write_summary(summary)
    write_run_tables(folder.path)
    if experiment.keep == "none":
        folder.drop_models()


def write_run_tables(folder: Path) -> None:
    """Write results.csv and rounds.csv of one run."""
    experiment = settings_of(folder)
    write_runs(folder, [finished(experiment, folder)], columns_of([experiment]))


DRAWING = "drawing the figures, writing the report"


def finish_study(console: Console, folder: Path) -> None:
    """Draw the charts, write report and tables, and print the table of a study, from its records."""
    from oleander.experiment.study import read_study

    report_study(console, folder, read_study(folder))


def report_study(console: Console, folder: Path, study: StudyResult) -> None:
    """The same of runs that are at hand, wherever they lie."""
    from oleander.reports.charts import draw_charts
    from oleander.reports.webpage import write_study_page

    with doing(DRAWING):
        write_tables(folder, study)
        write_differences(folder, study)
        write_study_page(folder, study, draw_charts(folder, study))
    print_study(console, folder, study)


def print_results(console: Console, folder: Path, summary: Summary, clients_shown: int = 12) -> None:
    """The run's table, from its records, and where the folder is."""
    clear_display()
    rounds = read_rounds(folder)
    table = Table(
        title=escape(f"{summary.scenario}: {run_line(folder, summary)}"),
        title_justify="left",
        title_style="bold",
        header_style="bold",
    )
    measured = summary.measures_asr
    for name in ("round", "MTA", "ASR") if measured else ("round", "MTA"):
        table.add_column(name, justify="right")
    table.add_column("clients: update norm, influence (malicious in red, *)")
    for record in rounds:
        number = "start" if record.round == 0 else str(record.round)
        scores = [percent(record.mta), percent(record.asr)] if measured else [percent(record.mta)]
        table.add_row(number, *scores, _clients(record, clients_shown))
    console.print()
    print_table(console, table)
    for line in _closing_lines(summary, not left_no_model(folder)):
        console.print(line)
    if (folder / CONFIG).is_file():  # not records alone
        console.print(escape(plain(" ".join(threat_model([settings_of(folder)])))))
    print_end(console, folder, [verdict(summary)], caveats_of_run(folder, summary))


def print_end(console: Console, folder: Path, found: list[str], caveats: list[str]) -> None:
    """The last lines: what was found, what weakens it, and where the report and the rest are."""
    console.print()
    for sentence in found:
        console.print(f"[bold]{escape(sentence)}[/]")
    if caveats:
        console.print("What weakens it:")
    for caveat in caveats:
        console.print(Padding(escape(f"- {caveat}"), (0, 0, 0, 2)))
    report = folder / REPORT
    if report.is_file():
        console.print(f"report: {escape(plain(report))}", soft_wrap=True)
    console.print(f"results in [bold]{escape(plain(folder))}[/]", soft_wrap=True)


def print_table(console: Console, table: Table) -> None:
    """A table of which nothing is cut off: texts are folded, and where numbers would not fit, each row is a list of its own."""
    least, natural = [], []
    for column in table.columns:
        texts = [Text.from_markup(str(cell)).plain for cell in column.cells]
        words = [word for text in [str(column.header), *texts] for word in text.split()]
        whole = texts if column.justify == "right" else []  # numbers keep to a line; of texts, the words do
        least.append(max(map(cell_len, [*(word[:LONGEST_WORD] for word in words), *whole]), default=1))
        natural.append(max(map(cell_len, [str(column.header), *texts])))
    spare = console.width - sum(least) - 3 * len(least) - 1
    if spare < 0:
        table.box, table.show_edge, table.padding = SIMPLE_HEAD, False, (0, 1, 0, 0)
        spare = console.width - sum(least) - 2 * len(least)
    if spare >= 0:
        for column, width, wanted in zip(table.columns, least, natural, strict=True):
            more = min(spare, wanted - width)
            column.width, column.overflow, spare = width + more, "fold", spare - more
        console.print(table)
        return
    console.print(table.title, style="bold")
    for cells in zip(*(column.cells for column in table.columns), strict=True):
        console.print()
        for column, cell in zip(table.columns, cells, strict=True):
            if cell:
                console.print(f"{column.header}: {cell}")


def print_study(console: Console, folder: Path, study: StudyResult) -> None:
    """A table for each chart: MTA and ASR over the seeds, beside what was published."""
    clear_display()
    for chart in study.charts:
        published = any(cell.published.given for cell in chart.cells)
        table = Table(
            title=escape(f"{chart.name}: {chart.title}"), title_justify="left", title_style="bold", header_style="bold"
        )
        for name in filter(None, (chart.series_title, chart.x_title or "setting")):
            table.add_column(escape(name))
        told = ("published MTA", "published ASR") if published else ()
        columns = _scores_in(chart)
        for name in ("runs", *columns, *told):
            table.add_column(name, justify="right", no_wrap="%" in name)  # an interval stays on its line
        for cell in chart.cells:
            place = [escape(cell.series), escape(cell.x)] if chart.series_title else [escape(cell.x)]
            said = [percent(cell.published.mta), percent(cell.published.asr)] if published else []
            scores = [score(cell) if cell.summaries else "–" for score in columns.values()]
            table.add_row(*place, str(len(cell.summaries)), *scores, *said)
        console.print()
        print_table(console, table)
        if differences := differences_of(chart):
            print_table(console, _differences(differences))
    for line in signs_of(score for chart in study.charts for cell in chart.cells for score in cell.scores()):
        console.print(escape(line))
    if study.repeats == 1:
        console.print("one seed: one draw, not a finding; --repeats 5 gives intervals")
    if goals := sorted(
        {goal for chart in study.charts for cell in chart.cells for goal in map(_goal, cell.summaries)} - {""}
    ):
        console.print(f"backdoor{' and'.join(goals)}")
    if len(study.folders()) < study.planned:
        console.print(f"{len(study.folders())} of {study.planned} runs are finished; these numbers are of them alone")
    console.print(f"augment {escape(study.augment())}")
    print_end(console, folder, study_verdict(study), caveats_of_study(study))


def _differences(found: Sequence[Difference]) -> Table:
    """Each setting against its reference, a row with both scores."""
    title = "differences by seed, in points; p of a paired t test, Holm-corrected"
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for name in ("setting − reference", "pairs"):
        table.add_column(name)
    measured = [score for score in SCORES if any(one.score == score for one in found)]
    for name in (name for score in measured for name in (score.upper(), "p")):
        table.add_column(name, justify="right", no_wrap=True)
    rows: dict[tuple[str, str], dict[str, Difference]] = {}
    for one in found:
        rows.setdefault((f"{one.setting} − {one.reference}", one.how), {})[one.score] = one
    for (compared, how), scores in rows.items():
        pairs = " / ".join(dict.fromkeys(str(one.pairs) for one in scores.values()))
        cells = [cell for score in measured for cell in _difference(scores.get(score))]
        table.add_row(escape(f"{compared}, {how}" if how else compared), pairs, *cells)
    return table


def _difference(one: Difference | None) -> tuple[str, str]:
    return ("–", "–") if one is None else (shown(one.paired.difference, signed=True), p_shown(one.p_holm))


def _scores_in(chart: Chart[Runs]) -> dict[str, Callable[[Runs], str]]:
    """Head of a column → what stands in it; where no run has an ASR, the MTA stands beside the starting model's."""
    measured = any(cell.asr() for cell in chart.cells)
    columns: dict[str, Callable[[Runs], str]] = {"MTA, %": lambda cell: shown(cell.mta())}
    if measured:
        columns["ASR, %"] = lambda cell: shown(cell.asr())
    for how in besides(chart.cells):
        for score in ("mta", "asr") if measured else ("mta",):
            columns[f"{how} {score.upper()}, %"] = lambda cell, how=how, score=score: shown(getattr(cell, how)(score))  # type: ignore[misc]
    if measured:
        return columns | {"baseline ASR": lambda cell: percent(cell.baseline_asr())}
    return columns | {"baseline MTA": lambda cell: percent(cell.baseline_mta())}


def _goal(summary: Summary) -> str:
    """The class that the backdoor leads to, where one is measured."""
    return f" → {escape(plain(summary.target_class))}" if summary.target_class and summary.asr is not None else ""


def _model(summary: Summary, kept: bool) -> str:
    gone = "" if kept else "; the model itself is not there: --keep none removed it when the run was finished"
    return f"model sha256 {escape(summary.model_sha256)}{gone}"


def _mta_and_asr(found: Voted | Repaired, summary: Summary) -> str:
    asr = f"   ASR {percent(found.asr)}" if summary.measures_asr else ""
    return f"MTA {percent(found.mta)}{asr}"


def _closing_lines(summary: Summary, kept: bool = True) -> list[str]:
    scores = [f"MTA {percent(summary.mta)} (baseline {percent(summary.baseline_mta)})"]
    if summary.measures_asr:
        scores.append(f"ASR {percent(summary.asr)} (baseline {percent(summary.baseline_asr)})")
    if summary.robust_accuracy is not None:
        scores.append(f"robust accuracy {percent(summary.robust_accuracy)}")
    lines = ["   ".join([*scores, f"start: {escape(summary.start)}"])]
    if summary.voted:
        voted = summary.voted
        lines.append(
            f"vote of {voted.voters:,} noised copies on {voted.test_images:,} test images: {_mta_and_asr(voted, summary)}"
        )
    if summary.repaired:
        lines.append(f"after repair {escape(summary.repair)}: {_mta_and_asr(summary.repaired, summary)}")
    if summary.true_positive_rate is not None and summary.strategy != "fedavg":
        lines.append(
            f"the defence left out {percent(summary.true_positive_rate)} of the malicious updates "
            f"and {percent(summary.false_positive_rate)} of the benign ones"
        )
    seconds = "  ".join(f"{phase} {value:.1f}" for phase, value in summary.seconds.items())
    return [*lines, f"seconds: {escape(seconds)}", _model(summary, kept)]


def _clients(record: RoundRecord, shown: int) -> str:
    cells = []
    rows = zip(
        record.client_ids, record.malicious, record.norms_before, record.norms_after, record.influence, strict=True
    )
    for client, malicious, before, after, influence in rows:
        norm = f"{before:.2f}" if after == before else f"{before:.2f}→{'mixed' if after is None else f'{after:.2f}'}"
        text = f"{client}{'*' if malicious else ''}: {norm}, {influence:.2f}"
        cells.append(f"[red]{text}[/]" if malicious else text)
    cells += [f"[yellow]{d['client']}: left out[/]" for d in record.dropped]
    more = f"  … and {len(cells) - shown} more" if len(cells) > shown else ""
    return "   ".join(cells[:shown]) + more
