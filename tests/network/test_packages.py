"""A server and clients whose packages come from PYTHONPATH alone, as on a cluster or after ``pip install --target``."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from oleander.experiment.records import read_rounds
from tests.network.places import THREE, Place
from tests.programs import ROOT, assert_nothing_left_of

pytestmark = [pytest.mark.network, pytest.mark.timeout(600)]


@pytest.mark.parametrize("stock", [False, True], ids=["own", "stock"])
def test_a_run_whose_packages_lie_elsewhere_comes_to_its_end(tmp_path, monkeypatch, stock):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    (tmp_path / "packages").symlink_to(Path(httpx.__file__).parent.parent)  # a way to them with no programs beside it
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(tmp_path / "packages")]))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bare" / "bin" / "python"))
    how = ["--stock"] if stock else []
    with Place(tmp_path) as place:
        place.anew = True
        place.server(*THREE, "--rounds", 1, "--out", place.out, *how)
        for number in range(3):
            place.client(number, *how)
        assert place.ended("server", 400) == 0, place.all()
        assert [place.ended(f"client{number}", 120) for number in range(3)] == [0] * 3, place.all()
    assert read_rounds(place.out)[1].client_ids == [0, 1, 2]
    assert_nothing_left_of(tmp_path)
