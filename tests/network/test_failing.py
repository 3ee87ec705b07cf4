"""A run that fails: what is told, and the end that comes whatever is still waited for."""

import threading
from types import SimpleNamespace

import pytest
from rich.console import Console

import server
from oleander.experiment import federation
from oleander.settings.config import Experiment


def test_a_context_that_hangs_after_a_failure_is_ended_from_without_and_one_that_does_not_is_left_alone(monkeypatch):
    monkeypatch.setattr(server, "ENDING_SECONDS", 0.05)
    ended = threading.Event()
    said = []

    def end(text):
        said.append(text)
        ended.set()

    with server.ending_in_time(end) as failed:
        failed(ValueError("client 1: out of cheese"))
        assert ended.wait(20), "still hanging"
    assert said == ["client 1: out of cheese"]
    ended.clear()
    monkeypatch.setattr(server, "ENDING_SECONDS", 0.2)
    with server.ending_in_time(end) as failed:
        failed(ValueError("client 2"))
    assert not ended.wait(0.5) and len(said) == 1


@pytest.mark.parametrize("hears", [True, False], ids=["clients hear it", "telling fails too"])
def test_a_full_disk_is_the_runs_error_and_the_clients_are_told(monkeypatch, hears):
    told, failures = [], []

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    def dismiss(grid, why, code, patience):
        told.append((why, code))
        if not hears:
            raise ConnectionError("the SuperLink is gone")

    monkeypatch.setattr(federation, "federate", full)
    setup, roster = SimpleNamespace(experiment=Experiment()), SimpleNamespace(dismiss=dismiss)
    with pytest.raises(OSError, match="No space left"):
        server._federated(None, setup, None, roster, Console(quiet=True), 3.0, failures.append)
    assert told == [("the run failed: [Errno 28] No space left on device", 1)] and isinstance(failures[0], OSError)
