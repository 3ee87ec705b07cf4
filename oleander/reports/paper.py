"""table.md and table.tex: a study's tables as a paper has them, means with intervals, and the best defence in bold.

Bold is, among the strategies that are compared under one attack and are more than plain averaging: the highest mean MTA, the lowest
mean ASR, the highest mean robust accuracy, as they are printed. A defence whose model lost more than half of its accuracy is out:
its ASR says nothing.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from oleander.experiment.intervals import Interval, in_percent, shown, signs_of
from oleander.experiment.study import Runs, StudyResult
from oleander.reports.differences import PLAIN, attacked, compared, several_strategies_in
from oleander.reports.latex import escaped, label
from oleander.settings.plan import Chart
from oleander.system.files import replace_file
from oleander.system.foreign import plain

TABLE = "table"
HEADS = {
    "mta": "MTA, %", "asr": "ASR, %", "robust_accuracy": "robust accuracy, %",
    "voted mta": "voted MTA, %", "voted asr": "voted ASR, %",
    "repaired mta": "repaired MTA, %", "repaired asr": "repaired ASR, %",
}  # fmt: skip
BEST = {"mta": max, "asr": min, "robust_accuracy": max}


def write_tables(folder: Path, study: StudyResult) -> None:
    """Write table.md and table.tex; of a study of several charts, a table for each that has finished runs."""
    charts = [chart for chart in study.charts if any(cell.summaries for cell in chart.cells)]
    replace_file(folder / f"{TABLE}.md", markdown(charts).encode(errors="backslashreplace"))
    replace_file(folder / f"{TABLE}.tex", latex(charts).encode(errors="backslashreplace"))


def markdown(charts: Sequence[Chart[Runs]]) -> str:
    """The tables in Markdown."""
    return "\n".join(_in_markdown(chart) for chart in charts)


def latex(charts: Sequence[Chart[Runs]]) -> str:
    """The tables for a LaTeX document that loads booktabs."""
    return "% \\usepackage{booktabs}\n" + "\n".join(_in_latex(chart) for chart in charts)


def best_of(chart: Chart[Runs]) -> set[tuple[int, str]]:
    """Which cells (by ``id``) are in bold, in which score."""
    found = set()
    for group in compared(chart.cells):
        defences = [
            cell for cell in group if cell.summaries[0].strategy != PLAIN and attacked(cell) and not _lost(cell)
        ]
        for score, pick in BEST.items() if several_strategies_in([group]) else ():
            means = {id(cell): in_percent(value.mean) for cell in defences if (value := _score(cell, score))}
            if means:
                wanted = pick(map(float, means.values()))
                found |= {(cell, score) for cell, mean in means.items() if float(mean) == wanted}
    return found


def _lost(cell: Runs) -> bool:
    """Whether the model has lost more than half of its accuracy, in the mean over the seeds."""
    return cell.mta().mean < sum(summary.baseline_mta for summary in cell.summaries) / len(cell.summaries) / 2


def _score(cell: Runs, score: str) -> Interval | None:
    how, _, which = score.rpartition(" ")
    if not cell.summaries:
        return None
    return getattr(cell, how)(which) if how else getattr(cell, which)()


def _rows(
    chart: Chart[Runs], text: Callable[[str], str], bold: Callable[[str], str]
) -> tuple[list[str], list[list[str]]]:
    """The head and the rows of a chart's table; ``text`` writes what comes from outside, ``bold`` a mean that is the best."""
    scores = [score for score in HEADS if any(_score(cell, score) for cell in chart.cells)]
    names = [*filter(None, (chart.series_title, chart.x_title or "setting"))]
    best, rows = best_of(chart), []
    for cell in chart.cells:
        mean_first = [shown(_score(cell, score)).partition(" ") for score in scores]
        marked = [
            (bold(mean) if (id(cell), score) in best else mean) + (f" {text(rest)}" if rest else "")
            for score, (mean, _, rest) in zip(scores, mean_first, strict=True)
        ]
        places = [cell.series, cell.x] if chart.series_title else [cell.x]
        rows.append([*map(text, places), str(len(cell.summaries)), *marked])
    return [*map(text, [*names, "runs", *(HEADS[score] for score in scores)])], rows


def _in_markdown(chart: Chart[Runs]) -> str:
    head, rows = _rows(chart, _escaped, lambda mean: f"**{mean}**")
    left = 1 + bool(chart.series_title)
    lines = [head, ["---"] * left + ["---:"] * (len(head) - left), *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([f"## {_escaped(chart.title)}\n", table, *(f"\n{_escaped(note)}" for note in _notes(chart)), ""])


def _in_latex(chart: Chart[Runs]) -> str:
    head, rows = _rows(chart, escaped, lambda mean: f"\\textbf{{{mean}}}")
    left = 1 + bool(chart.series_title)
    caption = " ".join(map(escaped, [chart.title.rstrip(".") + ".", *_notes(chart)]))
    lines = [
        "\\begin{table}", "\\centering\\footnotesize\\setlength{\\tabcolsep}{3pt}",  # else it is wider than an article's page
        f"\\caption{{{caption}}}", f"\\label{{tab:{label(chart.name)}}}",
        f"\\begin{{tabular}}{{@{{}}{'l' * left}{'r' * (len(head) - left)}@{{}}}}", "\\toprule", _line(head), "\\midrule",
        *map(_line, rows), "\\bottomrule", "\\end{tabular}", "\\end{table}", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    """A row; {} before a bracket, which would be the argument of the line break before it."""
    return f"{{}}{' & '.join(cells)} \\\\"


def _notes(chart: Chart[Runs]) -> list[str]:
    notes = signs_of(_score(cell, score) for cell in chart.cells for score in HEADS)
    return [*notes, "Bold: the best of the defences."] if best_of(chart) else notes


def _escaped(text: str) -> str:
    """A text as Markdown shows it and nothing else."""
    return re.sub(r"([\\`*_{}\[\]<>#|~$!&])", r"\\\1", plain(text))
