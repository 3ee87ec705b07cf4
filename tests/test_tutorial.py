"""docs/tutorial.ipynb: as it is committed, and as it runs in a kernel.

``python -m tests.test_tutorial`` runs it and keeps what it shows.
"""

import os
import re
import tempfile
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from oleander.calls.results import Row, Study, Table
from oleander.experiment.intervals import interval
from tests.programs import ROOT

TUTORIAL = ROOT / "docs" / "tutorial.ipynb"
FOUND = """
assert clean.mta > 0.9 and clean.asr < 0.1
assert blend.mta > 0.9 and blend.asr > 0.8
assert dba.asr > 0.8
assert krum.mta > 0.9 and krum.asr < 0.1
assert own.mta > 0.9 and own.asr < 0.1
assert [row.runs for row in compared.table] == [3, 3, 3]
import asyncio, os, signal, sys, threading
assert asyncio.get_event_loop().is_running() and threading.current_thread() is threading.main_thread()
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
assert "ray" not in sys.modules and "RAY_AUTH_TOKEN" not in os.environ
"""
"""What the tutorial says, and that the kernel is as it was."""


def test_what_is_committed_was_run_in_order_is_small_and_names_no_machine():
    notebook = nbformat.read(TUTORIAL, 4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not any(
        output.output_type in ("error", "stream") for cell in code for output in cell.outputs
    )  # nothing is printed
    pictures = [output for cell in code for output in cell.outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 5 and TUTORIAL.stat().st_size < 500_000
    shown = [o["data"] for cell in code for o in cell.outputs]
    text = [cell.source for cell in notebook.cells] + [
        str(v) for data in shown for k, v in data.items() if "image" not in k
    ]
    assert not re.search(r"/(home|root|tmp|work|Users)/", "\n".join(text))


def texts(notebook: nbformat.NotebookNode) -> list[str]:
    """What the cells show as text, without numbers, in which two machines may differ; of a picture how many axes it has."""
    shown = [o["data"] for cell in notebook.cells for o in cell.get("outputs", [])]
    return [form(text) for data in shown for kind, text in sorted(data.items()) if "image" not in kind]


def form(text: str) -> str:
    """A text in which each number is 0, a range is as equal seeds are, and a study's folder has no hash."""
    text = re.sub(r"(runs/[\w-]+-)[0-9a-f]{6}$", r"\g<1>0", text, flags=re.M)
    text = re.sub(r"\d++(?:\.\d++)?+(?! Axes)", "0", text)
    return re.sub(r" +", " ", text.replace("(all 0 alike)", "(0–0)"))


def test_its_study_is_shown_in_the_form_that_the_program_gives_three_seeds_today():
    alike, spread = interval([0.0, 0.0, 0.0]), interval([0.976, 0.977, 0.98])
    rows = [Row("", "", name, 3, spread, alike) for name in ("fedavg", "krum", "nearest_half")]
    shown = form(repr(Study(Path("runs/blend-strategy-000000"), (None,) * 9, Table(rows))))
    assert "(0–0)" in shown and "±" not in shown
    (stored,) = (text for text in texts(nbformat.read(TUTORIAL, 4)) if " runs; " in text)
    assert stored.partition("\nnotice")[0] == shown


def executed(folder: Path, *more: str) -> nbformat.NotebookNode:
    """The tutorial after a kernel has run it, with these cells behind it, in this folder."""
    notebook = nbformat.read(TUTORIAL, 4)
    notebook.cells += [nbformat.v4.new_code_cell(source) for source in more]
    NotebookClient(notebook, timeout=800, record_timing=False, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


@pytest.mark.network
@pytest.mark.timeout(900)
def test_it_runs_in_a_kernel_and_shows_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = executed(tmp_path, FOUND)
    pictures = [o for cell in notebook.cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
    assert len(pictures) == 5  # shown though nobody has imported pyplot
    assert texts(nbformat.read(TUTORIAL, 4)) == texts(notebook), (
        "python -m tests.test_tutorial keeps what is shown today"
    )


if __name__ == "__main__":
    os.environ["PYTHONPATH"] = str(ROOT)
    with tempfile.TemporaryDirectory() as made:
        done = executed(Path(made))
    done.metadata["language_info"] = {"name": "python"}
    nbformat.write(done, TUTORIAL)
