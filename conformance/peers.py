"""Try other projects' rules: ``python -m conformance.peers`` makes an environment for each, runs its adapter, writes the page.

An environment holds the project's own package, without what it depends on: NumPy, PyTorch and the rest are this environment's, so the
rules are compared and not their libraries. A peer runs under a memory limit and a time limit of its own.
"""

import argparse
import datetime
import json
import resource
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections import Counter, defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from conformance.make import text

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "conformance.md"
RESULTS = Path(__file__).parent / "results"
PEERS = ("flwr_functions", "flwr_messages", "byzfl_rules", "byzpy_rules", "fedml_rules", "p2pfl_rules", "openfl_rules")
MOST_MEMORY, MOST_SECONDS = 8 * 2**30, 300


def main() -> None:
    """Run them all, or those that are named, and write results and page."""
    parser = argparse.ArgumentParser(prog="python -m conformance.peers", description=__doc__)
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"of {', '.join(PEERS)} (default: all)")
    parser.add_argument("--page-only", action="store_true", help="write the page of the results that are there")
    told = parser.parse_args()
    if unknown := sorted(set(told.peers) - set(PEERS)):
        parser.error(f"{unknown[0]}: no adapter of that name; there are {', '.join(PEERS)}")
    RESULTS.mkdir(exist_ok=True)
    if not told.page_only:
        for peer in ("ours", *(told.peers or PEERS)):
            print(f"{peer}: {run(peer)}")
    PAGE.write_text(page(), encoding="utf-8")


def about(peer: str) -> dict[str, Any]:
    """PACKAGE, TITLE and BESIDE, what it cannot be imported without, of an adapter, read without importing it."""
    import ast

    tree = ast.parse((ROOT / "conformance" / "adapters" / f"{peer}.py").read_text("utf-8"))
    return {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id.isupper()
    }


def run(peer: str) -> str:
    """Run one; returns how it went."""
    if peer == "ours":
        return _tried(
            Path(sys.executable),
            "conformance.ours:aggregate",
            peer,
            {"TITLE": "Oleander", "version": version("oleander")},
        )
    told = about(peer)
    with tempfile.TemporaryDirectory() as scratch:
        python = Path(sys.executable)
        if told["PACKAGE"] != "flwr":  # which this environment has
            python = environment(Path(scratch), [told["PACKAGE"], *told.get("BESIDE", ())])
        else:
            told["TITLE"] = told["TITLE"].replace("Flower", f"Flower {version('flwr')}")
        return _tried(python, f"conformance.adapters.{peer}:aggregate", peer, told)


def environment(folder: Path, packages: list[str]) -> Path:
    """An environment with these packages alone, on top of this one's."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", *packages], check=True, capture_output=True)
    site = next(folder.glob("lib/*/site-packages"))
    (site / "beneath.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return python


def _tried(python: Path, function: str, peer: str, told: dict[str, str]) -> str:
    file = RESULTS / f"{peer}.json"
    file.unlink(missing_ok=True)
    command = [str(python), "-m", "conformance", "--with", function, "--json", str(file)]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=MOST_SECONDS,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, MOST_MEMORY)),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"it did not end within {MOST_SECONDS} s"
    if not file.is_file():
        return f"it did not run: {done.stderr.strip()[-500:]}"
    verdicts = json.loads(file.read_text("utf-8"))
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    file.write_text(text({"title": told["TITLE"], "date": date, "verdicts": verdicts}), "utf-8")
    return ", ".join(f"{count} {kind}" for kind, count in Counter(verdict["kind"] for verdict in verdicts).items())


# ---- the page -----------------------------------------------------------------------------------------------------------

HEAD = """# Conformance: whose rule gives what the paper says

`python -m conformance.peers` made this page. Each project's own code was run on the vectors of `conformance/`: tiny cohorts, and
what each rule gives by its paper, computed in exact arithmetic. A cell says on how many vectors a rule agrees, of those that it
can be asked; below the table stands, for each difference, the smallest vector that shows it.

- **agrees**: within 10⁻⁵ of the aggregate's largest number; or it refuses where the paper defines nothing. Ties may go to anybody.
- **rounding**: off by no more than sums in float32 of such updates may be.
- **differs**: another aggregate.
- **accepts**: an answer where the paper defines none, such as Krum's with n < 2f + 3.
- **refuses**: no answer where the paper has one.

A difference is no fault by itself: a project may mean another variant, guard against division by zero with a constant, or leave
bounds to its users. What the vectors say is which definition a name stands for. Each package was installed without what it
depends on, on top of one set of libraries (NumPy, PyTorch), so that rules are compared and not libraries. Of FedML only the defence
modules were imported: the package itself imports dozens of services. `acfa-flower` needs a compiled program that its
package does not bring, and no package named `krum` could be had: neither was run.
"""


def page() -> str:
    """The page of all results, ours first."""
    found = {file.stem: json.loads(file.read_text("utf-8")) for file in sorted(RESULTS.glob("*.json"))}
    order = [name for name in ("ours", *PEERS) if name in found]
    rules = list(dict.fromkeys(verdict["rule"] for verdict in found[order[0]]["verdicts"]))
    table = [f"| rule | {' | '.join(found[name]['title'] for name in order)} |", "|---" * (len(order) + 1) + "|"]
    for rule in rules:
        table.append(f"| `{rule}` | {' | '.join(cell(found[name]['verdicts'], rule) for name in order)} |")
    parts = [HEAD, "\n".join(table)]
    for name in order:
        if lines := differences(found[name]["verdicts"]):
            parts.append(f"## {found[name]['title']}\n\nRun on {found[name]['date']}.\n\n" + "\n".join(lines))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def cell(verdicts: list[dict[str, Any]], rule: str) -> str:
    """What a rule came to."""
    counts = Counter(verdict["kind"] for verdict in verdicts if verdict["rule"] == rule)
    asked = sum(counts.values()) - counts["absent"]
    if not asked:
        return "–"
    others = ", ".join(
        f"{counts[kind]} {kind}" for kind in ("rounding", "differs", "accepts", "refuses") if counts[kind]
    )
    return f"agrees ({asked})" if not others else f"{counts['agrees']} of {asked} agree; {others}"


def differences(verdicts: list[dict[str, Any]]) -> list[str]:
    """For each rule and kind of difference the vector with the fewest numbers."""
    cohorts = json.loads((Path(__file__).parent / "vectors" / "cohorts.json").read_text("utf-8"))
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for verdict in verdicts:
        if verdict["kind"] not in ("agrees", "absent"):
            groups[verdict["rule"], verdict["kind"]].append(verdict)
    lines = []
    for (rule, kind), group in groups.items():
        least = min(group, key=lambda verdict: sum(map(len, cohorts[verdict["cohort"]]["updates"])))
        settings = ", ".join(f"{name} {value}" for name, value in least["settings"].items())
        where = f"cohort “{least['cohort']}”" + (f", {settings}" if settings else "")
        lines.append(f"- `{rule}` **{kind}** on {len(group)}; least: {where}: {least['why']}.")
    return lines


if __name__ == "__main__":
    main()
