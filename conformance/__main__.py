"""``python -m conformance [RULE …]`` tries our own rules; ``--with module:function`` anybody's; ``--json FILE`` keeps all."""

import argparse
import json
import sys
from collections import Counter, defaultdict
from dataclasses import asdict
from pathlib import Path

from conformance.runner import VECTORS, Verdict, loaded, tried

KINDS = ("agrees", "rounding", "differs", "accepts", "refuses", "absent")


def main(arguments: list[str]) -> int:
    """Try, print a line for each rule and the first vector of each difference; 0 where all agree, 1 where not, 2 for bad input."""
    known = sorted(file.stem for file in VECTORS.glob("*.json") if file.stem != "cohorts")
    parser = argparse.ArgumentParser(prog="python -m conformance", description=__doc__)
    parser.add_argument("rules", nargs="*", metavar="RULE", help=f"of {', '.join(known)} (default: all)")
    parser.add_argument("--with", dest="function", default="conformance.ours:aggregate", metavar="MODULE:FUNCTION")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every verdict to this file")
    told = parser.parse_args(arguments)
    if unknown := sorted(set(told.rules) - set(known)):
        parser.error(f"{unknown[0]}: no vectors of such a rule; there are {', '.join(known)}")
    try:
        verdicts = tried(loaded(told.function), told.rules or None)
    except ValueError as error:
        parser.error(f"--with {error}")
    if told.json:
        told.json.write_text(json.dumps([asdict(verdict) for verdict in verdicts], indent=1), "utf-8")
    print(summary(verdicts))
    return int(any(verdict.kind not in ("agrees", "absent") for verdict in verdicts))


def summary(verdicts: list[Verdict]) -> str:
    """A line for each rule, and below it the first vector of each kind of difference."""
    by_rule: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        by_rule[verdict.rule].append(verdict)
    lines = []
    for rule, found in by_rule.items():
        counts = Counter(verdict.kind for verdict in found)
        lines.append(f"{rule:14} " + ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if counts[kind]))
        for kind in KINDS[1:-1]:
            first = next((verdict for verdict in found if verdict.kind == kind), None)
            if first:
                settings = ", ".join(f"{name} {value}" for name, value in first.settings.items())
                lines.append(f"    {kind}: {first.cohort}{f' ({settings})' if settings else ''}: {first.why}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
