"""What a run or a study found, in a sentence that its records bear out, and what weakens it.

The words for an attack's success follow its ASR alone, and are these: it works from ``WORKS`` on, in most images from ``MOST`` on,
in part where the ASR is more than ``MORE`` above the start's, else it failed. Nothing here is a test of significance.
"""

from pathlib import Path

from oleander.experiment.records import (
    CONFIG,
    Repaired,
    Summary,
    Voted,
    read_environment,
    read_rounds,
    read_summary,
    settings_of,
)
from oleander.experiment.study import Runs, StudyResult
from oleander.reports.caveats import counted, warnings_of
from oleander.reports.findings import of_settings
from oleander.settings.plan import Chart
from oleander.system.console import percent

WORKS, MOST, MORE = 0.9, 0.5, 0.1
"""Shares of the stamped images."""
ONE_SEED = "One seed: one draw. Run several (--repeats 5) before you believe a difference."


def verdict(summary: Summary) -> str:
    """What a run found."""
    mta = f"main task accuracy (MTA) is {percent(summary.mta)}, {_change(summary.mta, summary.baseline_mta)}"
    asr, start = percent(summary.asr), percent(summary.baseline_asr)
    if not summary.malicious or summary.attack == "none":
        alone = f", and the ASR, without an attacker, is {asr}" if summary.asr is not None else ""
        return f"Nobody attacked: {mta}{alone}."
    against = "" if summary.strategy == "fedavg" else f" against {summary.strategy}"
    if summary.mta < summary.baseline_mta / 2:
        says = f"; its ASR of {asr} is then no sign of a backdoor" if summary.asr is not None else ""
        return f"The attack broke the model{against}: {mta}{says}."
    if summary.asr is None:
        return f"The attack's success was not measured: {mta}.{_voted(summary)}{_repaired(summary)}"
    found = f"the ASR is {asr} (start {start}), and {mta}"
    return (
        f"{_success(summary.asr, summary.baseline_asr or 0.0)}{against}: {found}.{_voted(summary)}{_repaired(summary)}"
    )


def study_verdict(study: StudyResult) -> list[str]:
    """What a study found, a sentence for each chart with finished runs."""
    return [said for chart in study.charts if (said := _chart_verdict(chart))]


def caveats_of_run(folder: Path, summary: Summary) -> list[str]:
    """What weakens a run's verdict."""
    return [ONE_SEED, *_warnings(folder, summary)]


def caveats_of_study(study: StudyResult) -> list[str]:
    """What weakens a study's."""
    warnings = counted(
        [_warnings(folder, read_summary(folder)) for folder in study.folders() if (folder / CONFIG).is_file()]
    )
    return [ONE_SEED, *warnings] if study.repeats < 2 else warnings


def _warnings(folder: Path, summary: Summary) -> list[str]:
    if not (folder / CONFIG).is_file():  # records alone: there are no settings to judge by
        return []
    return warnings_of(settings_of(folder), summary, read_rounds(folder), read_environment(folder))


def _success(asr: float, start: float) -> str:
    if asr >= MOST and asr - start <= MORE:
        return "The final model has a backdoor, and so had the start"
    if asr >= WORKS:
        return "The backdoor works"
    if asr >= MOST:
        return "The backdoor works on most images"
    return "The backdoor works in part" if asr - start > MORE else "The backdoor failed"


def _change(value: float, start: float) -> str:
    points = round(100 * value, 1) - round(100 * start, 1)
    if abs(points) < 0.05:
        return "as at the start"
    return f"{abs(points):.1f} points {'above' if points > 0 else 'below'} the start"


def _voted(summary: Summary) -> str:
    if not summary.voted:
        return ""
    return f" The vote of {summary.voted.voters:,} noised copies: {_scores(summary.voted)}."


def _repaired(summary: Summary) -> str:
    if not summary.repaired:
        return ""
    return f" After the repair ({summary.repair}): {_scores(summary.repaired)}."


def _scores(found: Voted | Repaired) -> str:
    return (
        f"ASR {percent(found.asr)} and MTA {percent(found.mta)}"
        if found.asr is not None
        else f"MTA {percent(found.mta)}"
    )


def _chart_verdict(chart: Chart[Runs]) -> str:
    of = f"{chart.name}: " if chart.name else ""
    return f"{of}{said}." if (said := of_settings(chart)) else ""
