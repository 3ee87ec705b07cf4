"""What figures say above them: sentences made of a run's numbers, and nothing that the numbers do not say."""

import re
import statistics
from collections.abc import Callable, Mapping, Sequence

from oleander.experiment.classes import ClassCounts
from oleander.experiment.records import RoundRecord
from oleander.experiment.study import Runs
from oleander.settings.plan import Chart
from oleander.settings.sweeps import told
from oleander.system.console import percent
from oleander.system.foreign import plain
from oleander.system.numbers import fixed, significant, trimmed

SAME = 0.02
"""Shares that differ by no more are said to stay."""
LISTED = 3
"""So many are named; of more, only how many they are is said."""
APART = 0.1
"""How far beyond both ends of its course a share must have been for it to be said."""


def of_scores(rounds: Sequence[RoundRecord]) -> str:
    """How ASR and MTA went from the starting model to the last."""
    courses = [("ASR", "asr"), ("MTA", "mta")]
    said = [_course(name, {r.round: v for r in rounds if (v := getattr(r, by)) is not None}) for name, by in courses]
    return "; ".join(filter(None, said))


def _course(name: str, scores: dict[int, float]) -> str:
    if len(scores) < 2:
        return f"{name} is {percent(next(iter(scores.values())))}" if scores else ""
    first, last = scores[min(scores)], scores[max(scores)]
    if abs(last - first) <= SAME:
        said = (
            f"{name} stays at {percent(last)}"
            if last == first
            else f"{name} ends at {percent(last)} ({percent(first)} at first)"
        )
    else:
        said = f"{name} {'rises' if last > first else 'falls'} from {percent(first)} to {percent(last)}"
    lowest, highest = min(scores, key=lambda r: scores[r]), max(scores, key=lambda r: scores[r])
    if scores[highest] > max(first, last) + APART:
        said += f", with a peak of {percent(scores[highest])} in round {highest}"
    elif last > first + SAME and (reached := next(r for r in scores if scores[r] >= 0.9 * last)) < max(scores):
        said += f" ({percent(scores[reached])} by round {reached})"
    if scores[lowest] < min(first, last) - APART:
        said += f", with a low of {percent(scores[lowest])} in round {lowest}"
    return said


def of_norms(rounds: Sequence[RoundRecord]) -> str:
    """How long malicious updates are beside benign ones, as sent and after the defence."""
    sent = _medians(rounds, "norms_before")
    if len(sent) < 2:
        return (
            f"The median norm of {'the' if True in sent else 'benign'} updates is {next(iter(sent.values())):.2f}"
            if sent
            else "No updates"
        )
    said = f"{_compared(sent[True], sent[False])} as sent ({sent[True]:.2f} against {sent[False]:.2f} in the median)"
    after = _medians(rounds, "norms_after")
    if len(after) == 2 and after != sent:
        said += f"; after the defence {after[True]:.2f} against {after[False]:.2f}"
    return said


def of_norms_by_setting(settings: Mapping[str, Sequence[RoundRecord]]) -> str:
    """How many times as long as benign updates malicious ones are, setting by setting, as sent and after the defence.

    Args:
        settings: what a setting is called in a sentence → rounds.
    """
    sent, after = _times_as_long(settings, "norms_before"), _times_as_long(settings, "norms_after")
    if len(settings) < 2 or not len(sent) == len(after) == len(settings):
        return of_norms([record for rounds in settings.values() for record in rounds])
    said = f"Malicious updates are {_times(sent)} as long as benign ones as sent"
    return said if sent == after else f"{said}; after the defence {_times(after)}"


def _times_as_long(settings: Mapping[str, Sequence[RoundRecord]], which: str) -> dict[str, float]:
    """Setting → the median malicious norm over the median benign one, where there is such a ratio."""
    medians = {at: _medians(rounds, which) for at, rounds in settings.items()}
    return {at: norms[True] / norms[False] for at, norms in medians.items() if len(norms) == 2 and norms[False]}


def _times(ratios: Mapping[str, float]) -> str:
    said = {at: significant(ratio) for at, ratio in ratios.items()}
    if len(set(said.values())) == 1:
        return f"{next(iter(said.values()))} times"
    if len(ratios) > LISTED:
        return f"{significant(min(ratios.values()))} to {significant(max(ratios.values()))} times"
    return _listed([f"{ratio} times ({at})" for at, ratio in said.items()])


def _compared(bad: float, good: float) -> str:
    if not good:
        return "Malicious updates are longer than benign ones" if bad else "All updates are zero"
    if 0.95 <= bad / good <= 1.05:
        return "Malicious updates are as long as benign ones"
    return f"Malicious updates are {significant(bad / good)} times as long as benign ones"


def of_cosines(rounds: Sequence[RoundRecord]) -> str:
    """How far malicious and benign updates point where the aggregate does."""
    medians = _medians(rounds, "cosines")
    if len(medians) < 2:
        return (
            f"The median cosine of an update to the aggregate is {fixed(next(iter(medians.values())), 2)}"
            if medians
            else ""
        )
    bad, good = medians[True], medians[False]
    if abs(bad - good) < 0.05:
        how = f"median cosine {fixed(bad, 2)} and {fixed(good, 2)}"
        return f"Malicious and benign updates point where the aggregate does alike ({how})"
    who = "malicious" if bad > good else "benign"
    return (
        f"The aggregate follows the {who} updates: their median cosine to it is {fixed(max(bad, good), 2)}, "
        f"the others' {fixed(min(bad, good), 2)}"
    )


def _medians(rounds: Sequence[RoundRecord], which: str) -> dict[bool, float]:
    """Malicious or not → the median of what the rounds say of such clients, where there are any."""
    found: dict[bool, list[float]] = {}
    for record in rounds:
        for bad, value in zip(record.malicious, getattr(record, which) or [None] * len(record.malicious), strict=True):
            if value is not None:
                found.setdefault(bad, []).append(value)
    return {bad: statistics.median(values) for bad, values in found.items()}


def place(chart: Chart[Runs], cell: Runs) -> str:
    """Where a cell stands in its chart, as it is said in a sentence: ``blend / krum``, ``malicious clients 3``."""
    series = told(chart.series_title, cell.series)  # of several settings it names each itself
    return " / ".join(filter(None, (told(chart.x_title, cell.x), series)))


def _cited(chart: Chart[Runs]) -> Callable[[Runs], str]:
    """How a cell is named among a sentence's own words: quoted, where any label of the chart is more than a word."""
    labels = [label for cell in chart.cells if cell.summaries for label in (cell.x, cell.series)]
    several_words = any(re.search(r"[\s,:;]", label) for label in labels)
    return lambda cell: f"“{place(chart, cell)}”" if several_words else place(chart, cell)


def of_settings(chart: Chart[Runs]) -> str:
    """Between which settings' means ASR and MTA lie."""
    said, cited = [], _cited(chart)
    for name, of in (("ASR", Runs.asr), ("MTA", Runs.mta)):
        means = {cited(cell): mean.mean for cell in chart.cells if cell.summaries and (mean := of(cell))}
        if means:
            said.append(_between(name, means))
    return "; ".join(said)


def _between(name: str, means: dict[str, float]) -> str:
    least, most = min(means.values()), max(means.values())
    if most - least <= SAME:
        return f"{name} is {_percents(least, most)}" + (" in every setting" if len(means) > 1 else "")
    low, high = ([at for at, mean in means.items() if percent(mean) == percent(end)] for end in (least, most))
    return f"{name} is lowest {_among(low, len(means))} ({percent(least)}) and highest {_among(high, len(means))} ({percent(most)})"


def _among(places: Sequence[str], of: int) -> str:
    """All settings that are as good as each other: none of them is named for the others."""
    return f"with {_listed(places)}" if len(places) <= LISTED else f"in {len(places)} of {of} settings"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _percents(least: float, most: float) -> str:
    low, high = percent(least), percent(most)
    return low if low == high else f"{low.removesuffix(' %')} to {high}"


def of_trade(chart: Chart[Runs]) -> str:
    """Of which settings the MTA is farthest above the ASR; those within ``SAME`` of the best are as good as it."""
    cited = _cited(chart)
    scores = {
        cited(cell): (cell.mta().mean, asr.mean) for cell in chart.cells if cell.summaries and (asr := cell.asr())
    }
    best = max(mta - asr for mta, asr in scores.values())
    tied = {at: pair for at, pair in scores.items() if best - (pair[0] - pair[1]) <= SAME}
    mtas, asrs = zip(*tied.values(), strict=True)
    what = f"MTA {_percents(min(mtas), max(mtas))}, ASR {_percents(min(asrs), max(asrs))}"
    if 1 < len(tied) == len(scores):
        return f"MTA − ASR is about the same in {'both' if len(tied) == 2 else f'all {len(tied)}'} settings ({what})"
    who = _listed(list(tied)) if len(tied) <= LISTED else f"{len(tied)} of {len(scores)} settings"
    return f"Best MTA − ASR: {who} ({what})"


def of_classes(counts: ClassCounts) -> str:
    """Which class the final model knows best and least."""
    shares = {
        name: row[i] / sum(row)
        for i, (name, row) in enumerate(zip(counts.classes, counts.clean, strict=True))
        if sum(row)
    }
    ends = [percent(end) for end in (min(shares.values()), max(shares.values()))]
    if ends[0] == ends[1]:
        return f"The final model is right on {ends[0]} of each class's clean images"
    low, high = (_classes([plain(n) for n, share in shares.items() if percent(share) == end]) for end in ends)
    return f"The final model is right on {ends[0]} ({low}) to {ends[1]} ({high}) of a class's clean images"


def _classes(names: Sequence[str]) -> str:
    if len(names) > LISTED:
        return f"{len(names)} classes"
    return f"{'class' if len(names) == 1 else 'classes'} {_listed(names)}"


def of_victims(counts: ClassCounts) -> str:
    """What becomes of the images that the ASR is measured on."""
    assert counts.victims is not None
    rows = counts.victims
    total, target = sum(map(sum, rows)), counts.classes[counts.target]
    wanted = sum(row[counts.target] for row in rows)
    right = sum(row[i] for i, row in enumerate(rows))
    what = "stamped" if counts.stamped else "attacked"
    return (
        f"Of {total} {what} images {percent(wanted / total)} are answered “{plain(target)}”, the target, "
        f"and {percent(right / total)} with their own class"
    )


def of_shards(counts: ClassCounts) -> str:
    """How even the clients' shards are."""
    largest = [max(row) / sum(row) for row in counts.shards if sum(row)]
    held = [sum(map(bool, row)) for row in counts.shards if sum(row)]
    if not largest:
        return "No client holds an image"
    return (
        f"In the median client {percent(statistics.median(largest))} of the images are of one class; "
        f"it holds {trimmed(statistics.median(held))} of {len(counts.classes)} classes"
    )
