"""A whole run of ``simulate.py`` with some flags beside the same run with others, from the shell to the end of the process.

Ways take turns, repeat by repeat, each repeat with a seed of its own. What a machine remembers after its first run of such settings
(decoded images, the starting model's scores) is there before the clock starts.
"""

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import arguments, ratios, show, write
from benchmarks.scenario import PHASES, measures, percents, run


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
        for number, name in enumerate(names):
            run(name, [*flags[name], "--rounds", "1", "--seed", "0"], Path(scratch) / f"{number}-warm")
        for seed in range(told.repeats):
            for number, name in enumerate(names):
                found[name].append(run(name, [*flags[name], "--seed", str(seed)], Path(scratch) / f"{number}-{seed}"))
                print(name, seed, found[name][-1], flush=True)
    first = [r["seconds"] for r in found[names[0]]]
    rows = [
        [name, *measures(runs), *percents(runs), ratios([r["seconds"] for r in runs], first)]
        for name, runs in found.items()
    ]
    show(told.common, ("way", *PHASES[:-1], "GB", "MTA %", "ASR %", "x the first"), rows)
    write(told.json, measured=found)


if __name__ == "__main__":
    main()
