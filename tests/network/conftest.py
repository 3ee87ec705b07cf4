"""Keys for the tests of the network."""

from pathlib import Path

import pytest

from oleander.experiment.records import read_summary
from oleander.network.keys import make_keys
from tests.conftest import set_task
from tests.in_process import run_here
from tests.network.places import THREE


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a server on this machine and eight clients."""
    folder = tmp_path_factory.mktemp("keys")
    make_keys(folder, 8, ["localhost", "127.0.0.1"])
    return folder


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The hash that the run of ``THREE`` comes to."""
    out = tmp_path_factory.mktemp("simulated") / "run"
    with pytest.MonkeyPatch.context() as patched:
        set_task(patched)
        run_here(*THREE, out=out)
    return read_summary(out).model_sha256
