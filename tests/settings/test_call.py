"""Keywords of a call come to the same command as the flags of a command line."""

import types
from pathlib import Path

import numpy as np
import pytest

from oleander.learning.updates import Aggregate, Cohort
from oleander.settings.call import call_of, command_of
from oleander.settings.cli import parse_command
from oleander.settings.plan import plan_of
from oleander.system.errors import UserError
from strategies.fedavg import fedavg
from strategies.krum import krum


def asked(name="run", folder=Path("/nowhere"), scenario=None, sweep=None, repeats=None, resume=None, **settings):
    return command_of(call_of(name, folder, scenario, settings, sweep, repeats, resume))


@pytest.mark.parametrize(
    ("settings", "flags"),
    [
        ({"scenario": "dba", "strategy": "krum", "seed": 1}, ["--scenario", "dba", "--strategy", "krum", "--seed", "1"]),
        ({"strategy": ["clip", "krum"], "clip_norm": 2}, ["--strategy", "clip+krum", "--clip-norm", "2"]),
        ({"scenario": "scaling", "gamma": np.float64(3), "lr": 1}, ["--scenario", "scaling", "--gamma", "3", "--lr", "1"]),
        ({"scenario": "blend", "attack_rounds": "2-3", "no_cache": True},
         ["--scenario", "blend", "--attack-rounds", "2-3", "--no-cache"]),
        ({"out": Path("/tmp/x"), "strategy": krum}, ["--out", "/tmp/x", "--strategy", "krum"]),
    ],
)  # fmt: skip
def test_a_call_is_its_command_line(settings, flags):
    one, two = asked(**settings), parse_command(flags)
    assert one.flags.experiment == two.flags.experiment and one.given == two.given


def test_a_study_is_that_of_its_command_line():
    one = plan_of(asked("study", scenario="blend", sweep={"strategy": ["fedavg", "krum"], "malicious": range(1, 3)},
                        repeats=2, lr=0.1))  # fmt: skip
    flags = [
        "--scenario",
        "blend",
        "--sweep",
        "strategy=fedavg,krum",
        "--sweep",
        "malicious=1,2",
        "--repeats",
        "2",
        "--lr",
        "0.1",
    ]
    assert one == plan_of(parse_command(flags))
    assert plan_of(asked("study", scenario="blend")).repeats == 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"strategi": "krum"}, r"run: strategi is not a setting; did you mean strategy\?"),
        ({"poison_rate": 7}, "run: poison_rate = 7 must be"),
        ({"strategy": None}, "run: strategy = None"),
        ({"strategy": [1]}, "strategy: 1 is neither a step's name nor a function"),
        ({"strategy": "krumm"}, "--strategy krumm: 'krumm' is unknown; known: "),
        ({"scenario": "dbaa"}, r"--scenario dbaa: no such scenario \(did you mean dba\?\)"),
        ({"scenario": "course"}, "study of several runs"),
        ({"gamma": 3.0}, "--gamma 3.0: gamma is scaling's"),
        ({"seed": np.zeros(3)}, "run: seed = array"),
        ({"name": "study", "sweep": "strategy"}, "study: sweep = 'strategy'; wanted a dictionary"),
        ({"name": "study", "sweep": {"strategy": "krum"}}, "wanted a list of values, not 'krum'"),
        ({"name": "study", "sweep": {"seed": [1, 2]}}, "--repeats gives several seeds"),
        ({"name": "study", "sweep": {"strategi": [1]}}, "did you mean strategy"),
        ({"name": "study", "repeats": 0}, "study: repeats = 0: wanted a whole number, 1 or more"),
        ({"name": "study", "repeats": True}, "repeats = True"),
    ],
)
def test_bad_input_is_a_refusal_in_one_line(call, words):
    with pytest.raises(UserError, match=words) as refused:
        command = asked(**call)
        plan_of(command)
    assert "\n" not in str(refused.value)


LESS = 0.5


def my_rule(cohort: Cohort) -> Aggregate:
    """FedAvg, shrunk."""
    return fedavg(cohort, LESS)


def test_a_function_is_a_step_and_its_source_is_in_the_settings(tmp_path, monkeypatch):
    one = asked(folder=tmp_path, strategy=["clip", my_rule])
    assert (tmp_path / "python-session" / "my_rule.py").read_text().count("LESS") == 2
    assert one.flags.experiment.strategy == f"clip+{tmp_path}/python-session/my_rule.py"
    monkeypatch.setitem(globals(), "LESS", 0.25)
    (tmp_path / "b").mkdir()
    two = asked(folder=tmp_path / "b", strategy=my_rule)
    hashes = [command.flags.experiment.my_rule_sha256 for command in (one, two)]
    assert hashes[0] != hashes[1]  # a value that it uses is another, so the run is


def test_a_study_of_a_function_has_the_same_folder_whenever_it_is_called(tmp_path):
    plans = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        plans.append(plan_of(asked("study", tmp_path / name, "blend", strategy=my_rule, repeats=2)))
    assert plans[0].kind == plans[1].kind


def test_two_functions_of_one_name_are_refused(tmp_path):
    first = my_rule
    scope = dict(globals())
    other = types.FunctionType(first.__code__, scope | {"LESS": 1.0}, "my_rule")
    other.__module__, other.__annotations__ = first.__module__, first.__annotations__
    with pytest.raises(UserError, match="two functions have the name my_rule"):
        asked("study", tmp_path, sweep={"strategy": [first, other]})


def undocumented(cohort: Cohort) -> Aggregate:
    return fedavg(cohort)


def test_a_function_that_is_no_plug_in_is_refused(tmp_path):
    with pytest.raises(UserError, match="has no docstring"):
        asked(folder=tmp_path, strategy=undocumented)
    with pytest.raises(UserError, match="attack step"):
        asked(folder=tmp_path, attack=my_rule, malicious=1)
