"""Keys for the tests of the network."""

from pathlib import Path

import pytest

from oleander.network.keys import make_keys


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a server on this machine and eight clients."""
    folder = tmp_path_factory.mktemp("keys")
    make_keys(folder, 8, ["localhost", "127.0.0.1"])
    return folder
