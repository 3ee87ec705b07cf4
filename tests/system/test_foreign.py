"""Files of others, read as they were when they were opened."""

import os

import pytest

from oleander.system import foreign
from oleander.system.foreign import read_bytes


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(b"four")
    real = os.fdopen

    def grown(descriptor, *rest):
        opened = real(descriptor, *rest)
        os.truncate(tmp_path / "x", 2)
        return opened

    monkeypatch.setattr(foreign.os, "fdopen", grown)
    real_size = os.fstat

    class Info:
        st_size = 4

    monkeypatch.setattr(foreign.os, "fstat", lambda d: real_size(d) if real_size(d).st_size == 4 else Info)
    with pytest.raises(OSError, match="changed while it was read"):
        read_bytes(tmp_path / "x", 100)
