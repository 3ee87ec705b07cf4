"""By which command this program is named in messages, and the one version that it says."""

import sys

import pytest

from oleander.system import itself
from oleander.system.environment import versions


@pytest.mark.parametrize(
    ("called", "in_a_tree", "commands"),
    [
        ("/a/simulate.py", True, ["python simulate.py", "python server.py", "python -m clients"]),
        ("/a/server.py", True, ["python simulate.py", "python server.py", "python -m clients"]),
        ("/a/clients/__main__.py", True, ["python simulate.py", "python server.py", "python -m clients"]),
        ("/venv/bin/oleander", True, ["oleander", "oleander server", "oleander client"]),
        ("/venv/bin/oleander", False, ["oleander", "oleander server", "oleander client"]),
        ("-c", False, ["oleander", "oleander server", "oleander client"]),
        ("/a/oleander/__main__.py", True, [f"python -m oleander{part}" for part in ("", " server", " client")]),
    ],
)
def test_messages_name_the_command_as_it_was_called_or_as_it_can_be(monkeypatch, called, in_a_tree, commands):
    monkeypatch.setattr(sys, "argv", [called])
    monkeypatch.setattr(itself, "project", lambda: {"version": "1"} if in_a_tree else {})
    assert [itself.command(part) for part in ("simulate", "server", "client")] == commands


def test_a_source_tree_says_its_own_version_whatever_else_is_installed(monkeypatch):
    monkeypatch.setattr(itself, "project", lambda: {"version": "7.8.9"})
    monkeypatch.setattr(itself.metadata, "version", lambda name: "0.0.1")
    assert itself.version() == versions()["oleander"] == "7.8.9"
    monkeypatch.setattr(itself, "project", dict)
    assert itself.version() == versions()["oleander"] == "0.0.1"


def test_somebody_elses_pyproject_beside_what_is_installed_is_not_ours(monkeypatch, tmp_path):
    monkeypatch.setattr(itself, "ROOT", tmp_path)
    for text in ('[project]\nname = "other"\nversion = "9"\n', "[tool.x]\n", "no TOML", None):
        (tmp_path / "pyproject.toml").unlink(missing_ok=True)
        if text:
            (tmp_path / "pyproject.toml").write_text(text)
        itself.project.cache_clear()
        assert itself.project() == {}
    itself.project.cache_clear()
