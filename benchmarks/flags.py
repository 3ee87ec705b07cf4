"""A whole run of ``simulate.py`` with some flags beside the same run with others, from the shell to the end of the process.

Ways take turns, repeat by repeat, each repeat with a seed of its own. What a machine remembers after its first run of such settings
(decoded images, the starting model's scores) is there before the clock starts.
"""

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import Spread, arguments, ratios, show, write
from benchmarks.scenario import run

PHASES = ("seconds", "startup", "train", "evaluate", "other", "gigabytes")


def main() -> None:
    """Measure, print, write."""
    told = arguments(
        __doc__, common=("--scenario blend", "flags of all ways"), ways=(["", "--evaluate-images all"], "flags of each way, quoted"),
        repeats=(3, "repeats, each with the next seed"),
    )  # fmt: skip
    names = [f"ours {way}".strip() for way in told.ways]
    flags = {name: [*told.common.split(), *way.split()] for name, way in zip(names, told.ways, strict=True)}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(-1, told.repeats):
            for number, name in enumerate(names):
                words = ["--rounds", "1", "--seed", "0"] if seed < 0 else ["--seed", str(seed)]
                one = run(name, [*flags[name], *words], Path(scratch) / f"{number}-{seed}")
                if seed >= 0:
                    found[name].append(one)
                    print(name, seed, one, flush=True)
    rows = [
        [
            name,
            *(Spread.of([r[k] for r in runs]) for k in PHASES),
            *(Spread.of([100 * r[k] for r in runs]) for k in ("mta", "asr")),
            ratios([r["seconds"] for r in runs], [r["seconds"] for r in found[names[0]]]),
        ]
        for name, runs in found.items()
    ]
    show(told.common, ("way", *PHASES[:-1], "GB", "MTA %", "ASR %", "x the first"), rows)
    write(told.json, measured=found)


if __name__ == "__main__":
    main()
