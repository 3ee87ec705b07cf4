"""What a reader of a run's numbers must know: made-up data, assumptions that did not hold, replies that were left out."""

import inspect
import re
from collections.abc import Sequence
from typing import Any

from oleander.experiment.records import RoundRecord, Summary
from oleander.settings.config import Experiment
from oleander.settings.declared import declaration, in_use, knows_step, steps_of
from oleander.settings.kinds import is_omniscient
from oleander.settings.steps import short, split
from oleander.system.console import percent
from oleander.system.numbers import trimmed
from strategies import known_strategies

FEW_IMAGES = 2_400
"""Test images below which a score of 50 % is known to no better than 2 points (95 %, a binomial's normal approximation)."""
FOOLED_START = 0.2
"""ASR of a starting model that must be known."""


def warnings_of(
    experiment: Experiment, summary: Summary, rounds: Sequence[RoundRecord], environment: dict[str, Any]
) -> list[str]:
    """One sentence each, the gravest first."""
    found = []
    if summary.dataset == "toy":
        found.append("Toy data: drawn from code, to show how things work. Its numbers say nothing about CIFAR-10.")
    if summary.start.startswith("a fresh model"):
        found.append("Started from a fresh model: after a few rounds its accuracy is low whatever the attack does.")
    found += _broken(summary, rounds)
    found += _measured(summary)
    found += _assumptions(experiment, summary, rounds)
    found += _multi_krum(experiment, summary)
    found += _scaling(experiment)
    found += _omniscient(experiment)
    found += _untargeted(experiment, summary)
    dropped = [d for record in rounds for d in record.dropped]
    if dropped:
        found.append(
            f"Replies left out of their rounds (--on-bad-reply drop): {len(dropped)}; the first: {dropped[0]['cause']}."
        )
    clamped = sum(record.clamped_variances for record in rounds)
    if clamped:
        found.append(
            f"Aggregated running variances that were negative, and set to 0: {clamped}; a scaled update overshot."
        )
    for resumed in environment.get("resumed", []):
        found.append(f"Stopped, and went on after round {resumed['after_round']}.")
    if str(environment.get("commit") or "").endswith("+"):
        found.append("Run from a source tree with changes that are in no commit.")
    return found


def _measured(summary: Summary) -> list[str]:
    """What the scores cannot show: of a few images, or of an attack that the start gives in to already."""
    found = []
    if 0 < summary.test_images < FEW_IMAGES:
        off = 100 * 1.96 * (0.25 / summary.test_images) ** 0.5
        found.append(
            f"Scored on {summary.test_images:,} test images: by their choice alone a score may be {off:.1f} points off (95 %)."
        )
    if summary.malicious and (summary.baseline_asr or 0.0) >= FOOLED_START:
        found.append(
            f"The start's ASR is {percent(summary.baseline_asr)} already: the attack has not done all of the final model's."
        )
    return found


def _broken(summary: Summary, rounds: Sequence[RoundRecord]) -> list[str]:
    """Where a model is left that has nothing to say, so that its ASR says nothing either."""
    scored = [record for record in rounds if record.mta is not None]
    lost = sum(record.loss is None for record in scored)  # JSON has no NaN
    found = []
    if lost:
        found.append(f"The model's loss was no number in {lost} of {len(scored)} scored rounds: its values overflowed.")
    if summary.mta < summary.baseline_mta / 2:
        asr = ": its ASR says which class a broken model answers, not whether a backdoor works"
        found.append(f"The final model lost more than half of its accuracy{asr if summary.asr is not None else ''}.")
    return found


def _assumptions(experiment: Experiment, summary: Summary, rounds: Sequence[RoundRecord]) -> list[str]:
    """Where the rule's f was too small, and where there were more attackers than any rule has a guarantee for."""
    names = [*map(short, split(summary.strategy))]
    return _assumed_too_few(names, experiment, rounds) + _halves(names, rounds)


def _assumed_too_few(names: Sequence[str], experiment: Experiment, rounds: Sequence[RoundRecord]) -> list[str]:
    known = known_strategies()
    with_f = [n for n in names if n in known and "assumed_malicious" in inspect.signature(known[n].function).parameters]
    most = max((sum(record.malicious) for record in rounds), default=0)
    if with_f and experiment.assumed_malicious == 0:
        return [f"f = 0: {with_f[0]} assumed that nobody attacks."]
    if with_f and most > experiment.assumed_malicious:
        return [
            f"{with_f[0]} assumed f = {experiment.assumed_malicious}, but up to {most} attackers took part in a round: "
            "what its authors prove does not hold."
        ]
    return []


def _halves(names: Sequence[str], rounds: Sequence[RoundRecord]) -> list[str]:
    """Said of whatever defends, by its name: so that a study's page counts the runs of each."""
    halves = sum(bool(record.malicious) and 2 * sum(record.malicious) >= len(record.malicious) for record in rounds)
    if not halves or names == ["fedavg"]:
        return []
    played = sum(record.round > 0 for record in rounds)
    return [
        f"{'+'.join(names)}: half of the clients or more were malicious in {halves} of {played} rounds, where no rule that sees "
        "only the updates has a guarantee."
    ]


def _multi_krum(experiment: Experiment, summary: Summary) -> list[str]:
    """Where Multi-Krum averages more updates than its guarantee covers, which its default m = n − f does."""
    if "multi_krum" not in map(short, split(summary.strategy)):
        return []
    n, f = experiment.clients_per_round, experiment.assumed_malicious
    m, most = n - f if experiment.multi_krum_m is None else experiment.multi_krum_m, n - 2 * f - 3
    if m <= most:
        return []
    covered = f"m <= n - 2f - 3 = {most}" if most > 0 else f"m <= n - 2f - 3, which is {most} here: for no m"
    return [
        f"multi_krum averaged m = {m} of n = {n} updates with f = {f}; its guarantee holds for {covered}: beyond it, what was "
        "measured here is all there is to go by."
    ]


def _scaling(experiment: Experiment) -> list[str]:
    if "scaling" not in split(experiment.attack) or not experiment.malicious:
        return []
    if isinstance(experiment.samples_per_client, str) or experiment.partition == "writers":
        return [
            "Clients have unequal numbers of images, by which averages are weighted: the scaled updates do not add up to one model."
        ]
    usual = experiment.clients_per_round / experiment.malicious
    if experiment.gamma is None and usual < 1:
        return [
            f"γ = n/µ = {trimmed(usual)}: more attackers than clients a round, so that scaling makes updates smaller; set gamma."
        ]
    if experiment.gamma in (None, usual):
        return []
    return [
        f"γ = {trimmed(experiment.gamma)}, not n/µ = {trimmed(usual)}: "
        "the scaled updates do not add up to exactly one replaced model."
    ]


def _omniscient(experiment: Experiment) -> list[str]:
    """Attackers that see what no real one does: a setting NAME_knows that is all, or a step that is omniscient without one."""
    if not experiment.malicious:
        return []
    used = in_use(experiment.attack, "")
    asked = {used[name].plugin: name for name in used if name.endswith("_knows")}
    found = [
        f"The attackers of {plugin} knew every client's update ({name} = all): no real attacker does."
        for plugin, name in asked.items()
        if getattr(experiment, name) == "all"
    ]
    steps = [short(step) for step in steps_of("attacks", experiment.attack) if knows_step("attacks", step)]
    return found + [
        f"The attackers of {step} knew every client's update: no real attacker does."
        for step in steps
        if step not in asked and is_omniscient(declaration("attacks", step).source)
    ]


def _untargeted(experiment: Experiment, summary: Summary) -> list[str]:
    """An attack that leads to no class: what its success is to be read off."""
    if not experiment.malicious or experiment.attack == "none" or summary.asr is not None or summary.mta is None:
        return []
    if summary.baseline_asr is not None:  # it has an ASR, of a round that was not scored
        return []
    return [
        "The attack has no ASR: what it does is the MTA beside that of the same run with --malicious 0 --attack none."
    ]


NUMBER = re.compile(r"\d+(?:\.\d+)?")


def counted(lists: Sequence[list[str]]) -> list[str]:
    """The warnings of several runs, each once, with the number of runs it holds for.

    Warnings that differ only in their numbers are one, with the least and the greatest of each.
    """
    alike: dict[str, list[tuple[int, str]]] = {}
    for run, texts in enumerate(lists):
        for text in texts:
            alike.setdefault(NUMBER.sub("0", text), []).append((run, text))
    said = []
    for found in alike.values():
        runs, text = len({run for run, _ in found}), _ranged([text for _, text in found])
        said.append(text if runs == len(lists) else f"{text} ({runs} of {len(lists)} runs)")
    return said


def _ranged(texts: list[str]) -> str:
    """Texts that differ only in numbers, as one: ``1 to 57`` where they differ."""
    columns = [sorted(set(column), key=float) for column in zip(*(NUMBER.findall(text) for text in texts), strict=True)]
    ranges = iter([found[0] if len(found) == 1 else f"{found[0]} to {found[-1]}" for found in columns])
    return NUMBER.sub(lambda _: next(ranges), texts[0])
