"""Benchmarks are run by hand and rarely: at least each of them still finds what it imports."""

import importlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.mark.parametrize("name", sorted(file.stem for file in FOLDER.glob("*.py") if file.stem != "__init__"))
def test_a_benchmark_can_be_imported_and_says_what_it_measures(name):
    assert importlib.import_module(f"benchmarks.{name}").__doc__
