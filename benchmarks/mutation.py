"""How many small changes of the code the tests notice: mutation testing with mutmut, folder by folder.

mutmut changes one thing at a time (an operator, a number, an argument, a condition) and runs the tests that reach the changed
function; a change that no test notices has survived. It works on a copy, in one process of tests that imports PyTorch once and
is forked for each change. Only tests in process count, those of ``FOLDERS``, and decorated functions are not changed.

    pip install -e '.[test,mutation]'
    python -m benchmarks.mutation --folders strategies attacks          # the survivors' diffs, a table, the score
    python -m benchmarks.mutation --folders network --sample 150        # only so many, drawn with --seed
    python -m benchmarks.mutation --folders strategies --tests cfbb80e  # with the tests of another commit

Not everything that survives is a gap: a change may be none (``max(x, 0)`` of what is never negative), or be of a message's words.
"""

import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import arguments, show, write

ROOT = Path(__file__).parent.parent
PACKAGES = ["attacks", "clients", "oleander", "repairs", "strategies"]
UNTOUCHED = ["simulate.py", "server.py", "scenarios", "benchmarks", "docs", "README.md", "constraints.txt"]


@dataclass(frozen=True)
class Target:
    """What is mutated of a folder, and the tests that are to notice."""

    files: list[str]
    tests: list[str]


MODEL = ["learning/test_learning.py", "learning/test_training.py", "learning/test_parameters.py"]
FOLDERS = {
    "strategies": Target(
        ["*.py"],
        ["strategies", "transport/test_waiting.py", "transport/test_replies.py"],
    ),
    "attacks": Target(["*.py"], ["attacks", "clients", "settings/test_declared.py"]),
    "clients": Target(["malicious.py", "benign.py"], [*MODEL, "clients"]),
    "oleander/datasets": Target(["partition.py"], ["datasets/test_partition.py", "datasets/test_toy.py"]),
    "oleander/learning": Target(
        ["training.py", "evaluation.py", "parameters.py", "remembered.py"],
        [*MODEL, "learning/test_evaluation.py", "learning/test_scores.py"],
    ),
    "oleander/settings": Target(["sweeps.py", "plan.py"], ["settings/test_plan.py", "settings/test_sweeps.py"]),
    "oleander/experiment": Target(
        ["intervals.py", "resume.py", "records.py"],
        [
            *(f"experiment/test_{name}.py" for name in ("intervals", "resume", "records", "standing", "exclusion")),
        ],
    ),
    "oleander/network": Target(
        ["filter.py", "roster.py"],
        [f"network/{test}" for test in ("test_roster.py", "test_hello.py", "test_gate.py", "test_passed_on.py")],
    ),
}  # fmt: skip
SLOW = "not (killed_in_round or exits_with or compiler or cifar or test_toy or never_answers or bf16)"
"""Tests that start programs or draw thousands of images are left out."""
STATUS = {0: "survived", 1: "killed", 3: "killed", 5: "untested", 33: "untested", None: "not run"}
COLUMNS = ("killed", "timeout", "survived", "untested", "other")


def main() -> None:
    """Mutate, print, write."""
    known = ", ".join(FOLDERS)
    told = arguments(
        __doc__, folders=(list(FOLDERS), f"of {known}"), sample=(0, "mutants of each folder; 0: all"), seed=(0, "draws the sample"),
        children=(2, "mutants at the same time"), tests=("", "a commit whose tests are taken; empty: those that are here"),
        survivors=(1, "1: print the survivors' diffs, 0: leave them out"),
        again=("", "a file of --json: of its mutants, try those again that were not killed; the code must be the same"),
    )  # fmt: skip
    if unknown := [name for name in told.folders if name not in FOLDERS]:
        raise SystemExit(f"--folders {' '.join(unknown)}: known are {known}")
    before = json.loads(Path(told.again).read_text(encoding="utf-8"))["found"] if told.again else {}
    found = {
        name: measured(name, told.tests, told.sample, told.seed, told.children, before.get(name, {}))
        for name in told.folders
    }
    for name, results in found.items():
        for mutant, result in results.items() if told.survivors else ():
            if result["status"] in ("survived", "untested"):
                print(f"\n{name}: {mutant} {result['status']}\n{result['diff']}")
    show(
        "Mutants", ("folder", "mutants", *COLUMNS, "score"), [row(name, list(r.values())) for name, r in found.items()]
    )
    write(told.json, found=found)


def row(name: str, results: list[dict[str, str]]) -> list[object]:
    """One line of the table; a mutant that takes far longer than the original was noticed."""
    counts = {status: sum(r["status"] == status for r in results) for status in COLUMNS}
    score = (counts["killed"] + counts["timeout"]) / max(len(results), 1)
    return [name, len(results), *counts.values(), f"{100 * score:.0f} %"]


def measured(
    name: str, tests: str, sample: int, seed: int, children: int, before: dict[str, dict[str, str]]
) -> dict[str, dict[str, str]]:
    """Mutant → its status, and its diff where it was not killed; those killed ``before`` are not tried again."""
    with tempfile.TemporaryDirectory(prefix="oleander-mutation-") as scratch:
        folder = Path(scratch) / "copy"
        copy_to(folder, tests)
        configure(folder, name)
        mutmut(folder, "run", "--max-children", str(children), "none")  # makes them and learns which tests reach them
        names = sorted(mutant for file in mutated(folder) for mutant in verdicts(file))
        if not names:
            raise SystemExit(f"{name}: mutmut made no mutants; MUTMUT_DEBUG=1 shows why")
        if 0 < sample < len(names):
            names = sorted(random.Random(seed).sample(names, sample))
        if before:
            names = sorted(mutant for mutant, old in before.items() if old["status"] != "killed")
        mutmut(folder, "run", "--max-children", str(children), *names, must=True)
        codes = {
            mutant: code for file in mutated(folder) for mutant, code in verdicts(file).items() if mutant in set(names)
        }
        return before | {mutant: result(folder, mutant, code) for mutant, code in codes.items()}


def copy_to(folder: Path, tests: str) -> None:
    """This checkout's files, tests included or those of another commit."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in map(os.fsdecode, filter(None, listed.stdout.split(b"\0"))):
        if (ROOT / name).is_file() and not (tests and name.startswith("tests/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    if tests:
        packed = subprocess.run(["git", "archive", tests, "tests"], cwd=ROOT, capture_output=True, check=True)
        with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
            archive.extractall(folder, filter="data")


def configure(folder: Path, name: str) -> None:
    """The table that mutmut reads, in the copy's pyproject.toml."""
    target = FOLDERS[name]
    tests = [f"tests/{test}" for test in target.tests if (folder / "tests" / test.partition("::")[0]).exists()]
    settings = {
        "source_paths": PACKAGES,
        "only_mutate": [
            str(file.relative_to(folder)) for pattern in target.files for file in (folder / name).glob(pattern)
        ],
        "also_copy": UNTOUCHED,
        "pytest_add_cli_args": ["-n0", "-p", "no:cacheprovider", "-k", SLOW],
        "pytest_add_cli_args_test_selection": tests,
        "process_isolation": "forkserver",  # neither PyTorch's threads nor ours outlive a fork
        "timeout_constant": 10.0,
        "timeout_multiplier": 5.0,  # on a busy machine a slow test is no sign of an endless loop
        "use_git_change_detection": False,
        "debug": bool(os.environ.get("MUTMUT_DEBUG")),
    }
    table = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
    with (folder / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write(f"\n[tool.mutmut]\n{table}")


def mutmut(folder: Path, *words: str, must: bool = False) -> str:
    """What mutmut prints; where it ``must`` go well and does not, the end. NumPy's and PyTorch's threads are one each."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = Path(sys.executable).with_name("mutmut")
    if not command.is_file():
        raise SystemExit("mutmut is not installed: pip install -e '.[test,mutation]'")
    done = subprocess.run([command, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if os.environ.get("MUTMUT_DEBUG"):
        print(done.stdout[-20_000:], done.stderr[-5_000:], file=sys.stderr)
    if must and done.returncode:  # such as tests that fail with nothing changed
        raise SystemExit(f"mutmut {words[0]} failed:\n{done.stdout[-3000:]}\n{done.stderr[-2000:]}")
    return done.stdout


def mutated(folder: Path) -> list[Path]:
    """The files in which mutmut keeps its verdicts."""
    return sorted((folder / "mutants").rglob("*.py.meta"))


def verdicts(file: Path) -> dict[str, int | None]:
    """Mutant → exit code of its tests."""
    return dict(json.loads(file.read_text(encoding="utf-8"))["exit_code_by_key"])


def result(folder: Path, mutant: str, code: int | None) -> dict[str, str]:
    """A mutant's status, and its diff where it was not killed."""
    timeout = code is not None and abs(code) in (24, 36, 152, 255)
    status = "timeout" if timeout else STATUS.get(code, "other")
    diff = "" if status == "killed" else mutmut(folder, "show", mutant).partition("\n")[2]
    return {"status": status, "diff": diff.strip()}


if __name__ == "__main__":
    main()
