"""The keys of ``flwr run . -c "…"`` as settings, and what Flower's log says of those that cannot be."""

import io
import logging

import pytest

from oleander.settings.config import SHARED, Experiment
from oleander.settings.run_config import KEYS, experiment_of
from oleander.system.console import in_one_line
from oleander.system.errors import RunError, UserError


def asked(**keys):
    """With what Flower fills in for keys that were not given: what pyproject.toml has."""
    return experiment_of(dict.fromkeys(KEYS, "") | {"scenario": "dba"} | keys)


def test_keys_go_over_the_scenario_and_plug_ins_own_settings_come_as_flags():
    found = asked(strategy="krum", rounds=3, lr=1, no_cache=True, attack_rounds="2-3", flags="--patch-size 5")
    assert (found.scenario, found.attack, found.malicious, found.strategy, found.rounds) == ("dba", "dba", 3, "krum", 3)
    assert (found.lr, found.no_cache, found.attack_rounds, found.patch_size) == (1.0, True, "2-3", 5)
    assert asked(scenario="", seed=7) == Experiment(scenario="custom", seed=7)
    assert asked(out="/a folder/with = and 'quotes'").out == "/a folder/with = and 'quotes'"
    assert asked(no_cache=False, attack_rounds=2).attack_rounds == 2


def test_every_shared_setting_is_a_key_that_gets_there():
    others = {
        "client_gpus": 0.5,
        "ray_address": "auto",
        "out": "runs/x",
        "rounds": 9,
        "seed": 3,
        "attack_rounds": "2-3",
    }
    keys = {name: others.get(name, 1 if default is None else default) for name, default in SHARED.items()}
    found = asked(**keys | {"scenario": ""})
    assert found.settings() == keys | {"scenario": "custom"}


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"rounds": "three"}, ["run config", "rounds = 'three'", "a whole number"]),
        ({"rounds": 2.5}, ["rounds = 2.5"]),
        ({"rounds": 0}, ["rounds = 0", "greater than or equal to 1"]),
        ({"strategy": 3}, ["strategy = 3", "must be text"]),
        ({"strategy": "krumm"}, ["krumm", "multi_krum"]),
        ({"no_cache": "yes"}, ["no_cache = 'yes'", "must be true or false"]),
        ({"scenario": "dbaa"}, ["dbaa", "did you mean dba"]),
        ({"scenario": 3}, ["--scenario 3", "no such scenario"]),
        ({"scenario": "course"}, ["course", "wanted a single run"]),
        ({"partition": "iidd"}, ["partition = 'iidd'", "dirichlet"]),
        ({"flags": "--malicios 3"}, ["run config: flags = '--malicios 3'", "--malicios"]),
        ({"flags": "--rounds two"}, ["flags = '--rounds two'", "--rounds"]),
        ({"flags": "--help"}, ["flags = '--help'"]),
        ({"flags": "--out 'x"}, ["closing quotation"]),
        ({"flags": "--clip-norm 2"}, ["--clip-norm 2", "clip's"]),
        ({"flags": "--rounds 4", "rounds": 3}, ["rounds = 3", "--rounds 4", "one of them"]),
        ({"flags": "--out=x", "out": "y"}, ["out = 'y'", "--out=x"]),
        ({"flags": "--repeats 2"}, ["--repeats", "wanted a single run"]),
        ({"malicious": 0}, ["--malicious 0", "nobody would attack"]),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(keys, words, capsys):
    with pytest.raises(UserError) as refused:
        asked(**keys)
    assert all(word in str(refused.value) for word in words), refused.value
    assert "\n" not in str(refused.value) and "".join(capsys.readouterr()) == ""


def test_flowers_log_says_a_foreseen_error_in_its_line_and_any_other_whole():
    said, log = io.StringIO(), logging.Logger("as Flower's")
    log.addHandler(logging.StreamHandler(said))
    log.addFilter(in_one_line)
    for error in (UserError("rounds = 0: 100 % wrong"), RunError("client 3 died"), ValueError("a bug")):
        try:
            raise error
        except Exception as raised:
            log.error("%s raised an exception", "ServerApp", exc_info=raised)
    first, second, *rest = said.getvalue().splitlines()
    assert (first, second) == ("error: rounds = 0: 100 % wrong", "error: client 3 died")
    assert rest[0] == "ServerApp raised an exception" and "Traceback" in rest[1] and "a bug" in rest[-1]
