"""What settings of a study differ by, seed by seed: against one reference, with intervals and Holm-corrected p values.

Equal seeds have the same partition, selection and starting model, so that two settings are compared pair by pair and never as
two heaps. What is compared are strategies where a chart has several, each against plain FedAvg under the same attack; else the
values of the chart's x axis, against the run without an attacker, or where there is none, the first.
"""

import csv
import io
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from oleander.experiment.intervals import ENOUGH, Paired, holm, paired
from oleander.experiment.results import cell_text
from oleander.experiment.study import Runs, StudyResult, besides
from oleander.reports.findings import place
from oleander.settings.plan import Chart
from oleander.system.files import replace_file

DIFFERENCES = "differences.csv"
SCORES = ("mta", "asr")
PLAIN = "fedavg"


@dataclass(frozen=True)
class Difference:
    """One setting against its reference, in one score."""

    chart: str
    setting: str
    reference: str
    score: str
    """``mta`` or ``asr``."""
    how: str
    """``voted`` or ``repaired``: whose score it is; nothing for the final model's own."""
    paired: Paired
    p_holm: float | None = None
    """The p value, corrected for all comparisons of the chart."""

    @property
    def pairs(self) -> int:
        """Seeds that both have finished."""
        return len(self.paired.seeds)


def study_differences(study: StudyResult) -> list[Difference]:
    """Of all charts; each chart is one family of comparisons."""
    return [found for chart in study.charts for found in differences_of(chart)]


def differences_of(chart: Chart[Runs]) -> list[Difference]:
    """A row for each setting and score, in the chart's order; the p values corrected over all of them."""
    found = []
    for group in compared(chart.cells):
        reference = reference_of(group)
        for cell in (cell for cell in group if cell is not reference):
            for how, score in itertools.product(["", *besides([cell, reference])], SCORES):
                if pair := paired(by_seed(cell, score, how), by_seed(reference, score, how)):
                    found.append(Difference(chart.name, place(chart, cell), place(chart, reference), score, how, pair))
    comparisons = sum(difference.pairs >= ENOUGH for difference in found)  # also those that leave nothing to test by
    corrected = holm([difference.paired.p for difference in found], comparisons)
    return [replace(difference, p_holm=p) for difference, p in zip(found, corrected, strict=True)]


def compared(cells: Iterable[Runs]) -> list[list[Runs]]:
    """The finished cells in groups, within each of which one thing differs: strategies, where a chart has several."""
    cells = [cell for cell in cells if cell.summaries]
    along_x, along_series = _groups(cells, lambda cell: cell.series), _groups(cells, lambda cell: cell.x)
    if not several_strategies_in(along_x) and several_strategies_in(along_series):
        return along_series
    return along_x


def several_strategies_in(groups: Iterable[Sequence[Runs]]) -> bool:
    """Whether any group compares strategies."""
    return any(len({cell.summaries[0].strategy for cell in group}) > 1 for group in groups)


def reference_of(group: Sequence[Runs]) -> Runs:
    """What the others of a group are compared with.

    Among strategies plain FedAvg, under attack if it is there so; else the run without an attacker; else the first.
    """
    if several_strategies_in([group]):
        plain = [cell for cell in group if cell.summaries[0].strategy == PLAIN]
        return next((cell for cell in plain if attacked(cell)), [*plain, *group][0])
    return next((cell for cell in group if not attacked(cell)), group[0])


def attacked(cell: Runs) -> bool:
    """Whether anybody attacks in this setting."""
    return bool(cell.summaries[0].malicious) and cell.summaries[0].attack != "none"


def by_seed(cell: Runs, score: str, how: str = "") -> dict[int, float]:
    """Seed → score of the runs that have one. A model that was not repaired, or whose copies do not vote, has its own for both."""
    scored = {s.seed: (how and getattr(s, how)) or s for s in cell.summaries}
    return {seed: value for seed, one in scored.items() if (value := getattr(one, score)) is not None}


def write_differences(folder: Path, study: StudyResult) -> list[Difference]:
    """Write differences.csv, a row a comparison, differences as shares from -1 to 1; returns what is in it."""
    found = study_differences(study)
    text = io.StringIO()
    writer = csv.DictWriter(text, [*row_of(found[0])] if found else ["chart"], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: cell_text(value) for name, value in row_of(difference).items()} for difference in found)
    replace_file(folder / DIFFERENCES, text.getvalue().encode())
    return found


def row_of(difference: Difference) -> dict[str, Any]:
    """A comparison as a row: of a table, a CSV file, or a data frame."""
    of = difference.paired.difference
    return {
        "chart": difference.chart, "setting": difference.setting, "reference": difference.reference,
        "score": difference.score, "how": difference.how, "pairs": difference.pairs,
        "difference": of.mean, "low": of.low, "high": of.high, "least": of.least, "greatest": of.greatest,
        "p": difference.paired.p, "p_holm": difference.p_holm,
    }  # fmt: skip


def _groups(cells: Sequence[Runs], key: Callable[[Runs], str]) -> list[list[Runs]]:
    names = dict.fromkeys(map(key, cells))
    return [[cell for cell in cells if key(cell) == name] for name in names]
