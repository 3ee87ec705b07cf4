"""``--dataset auto`` is settled before the other settings are read, and not before they can be."""

import pytest

from oleander.datasets import sources
from oleander.experiment.asked import asked, asked_run
from oleander.settings.cli import parse
from oleander.system.errors import UserError


@pytest.fixture
def offline(monkeypatch):
    seen = []
    real = sources._ours

    def ours(source, *rest):
        seen.append(source)
        if source == "cifar10":
            raise UserError("no network")
        return real(source, *rest)

    monkeypatch.setattr(sources, "_ours", ours)
    return seen


def test_without_cifar10_a_run_is_one_of_digits_with_its_settings_and_says_so(offline):
    told = []
    command, plan = asked(["--scenario", "dba", "--rounds", "3"], told.append)
    experiment = command.flags.experiment
    assert plan is None and (experiment.dataset, experiment.model, experiment.rounds) == ("digits", "cnn", 3)
    assert len(told) == 1 and "DIGITS" in told[0] and "no network" in told[0]
    assert asked_run(lambda auto: parse(["--scenario", "dba"], auto), told.append).model == "cnn"


def test_so_is_a_study(offline):
    _, plan = asked(["--scenario", "dba", "--sweep", "strategy=fedavg,krum"], print)
    assert {(e.dataset, e.batch_size) for e in plan.experiments()} == {("digits", 32)}


@pytest.mark.parametrize("flags", [["--dataset", "toy"], ["--resume", "somewhere"]])
def test_nothing_is_looked_for_where_nothing_has_to_be_settled(offline, flags):
    asked(flags, print)
    assert not offline


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--malicious", "9", "--attack", "blend"], "more than --clients"),
        (["--strategy", "krumm"], "'krumm' is unknown"),
    ],
)
def test_nothing_is_downloaded_for_a_command_that_cannot_be(offline, flags, said):
    with pytest.raises(UserError, match=said):
        asked(flags, print)
    assert not offline


def test_cifar10_is_taken_where_it_is(monkeypatch):
    monkeypatch.setattr(sources, "_ours", lambda *_: None)
    command, _ = asked([], print)
    assert (command.flags.experiment.dataset, command.flags.experiment.model) == ("cifar10", "resnet18light")
