"""Scenario files that cannot be: exit code 2 and one line, whatever their TOML is."""

import pytest

import simulate
from oleander.settings.cli import parse_command
from oleander.settings.plan import plan_of
from oleander.system import foreign
from oleander.system.errors import UserError

TOMLS = {
    "100,000 arrays": "lr = " + "[" * 100_000,
    "100,000 tables": "lr = " + "{a=" * 100_000,
    "closed arrays": "lr = " + "[" * 500 + "]" * 500,
    "a dotted key": "sweep." + ".".join("a" * 20_000) + " = 1",
    "5,000 digits": "seed = " + "9" * 5_000,
    "4,000 digits": "seed = " + "9" * 4_000,
    "4,000 digits for a float": "lr = " + "9" * 4_000,
    "twice": "seed = 1\nseed = 2",
    "a date": "description = 2024-01-01",
    "a time": "description = 12:00:00",
    "a moment": "weights = 2024-01-01T00:00:00Z",
    "inf": "lr = inf",
    "nan": "lr = nan",
    "1e999": "lr = 1e999",
    "a table for a setting": "[seed]\nx = 1",
    "an array": "seed = [1]",
    "a text": 'seed = "1"',
    "true": "seed = true",
    "1.0": "seed = 1.0",
    "half a pair": 'weights = "\\ud800"',
    "a NUL": 'out = "a\\u0000b"',
    "an escape": 'scenario = "\\u001b[2J"',
    "a sweep of a number": "sweep = 1",
    "a sweep of dates": "[sweep]\nseed = [2024-01-01]",
    "a point of text": 'point = "x"',
    "points of text": 'point = ["x"]',
    "a figure": "figure = 1",
    "include": "include = 5",
    "include of itself": 'include = ["./mine.toml"]',
    "repeats": "repeats = 2024-01-01",
    "huge repeats": "repeats = 99999999999",
    "a key of escapes": '"\\u001b[31m" = 1',
    "a long key": "x" * 100_000 + " = 1",
    "an include of nothing": 'include = [""]',
    "a sweep within": "[sweep]\nlr = [" + "[" * 400 + "]" * 400 + "]",
    "a byte order mark twice": "\ufeff\ufeffseed = 1",
    "a study called ..": 'scenario = ".."\nrepeats = 2',
    "a study of a path": 'scenario = "a/b"\nrepeats = 2',
}


@pytest.mark.parametrize("what", TOMLS)
def test_a_scenario_that_cannot_be_exits_with_2(what, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(TOMLS[what], encoding="utf-8")
    assert simulate.main(["--scenario", "./mine.toml", "--clients", "0"]) == 2
    if "lr" not in TOMLS[what][:2] or "nan" not in TOMLS[what]:
        with pytest.raises(UserError), foreign.refusing("x"):
            plan_of(parse_command(["--scenario", "./mine.toml"]))
    said = capsys.readouterr().err
    assert said.startswith("error:") and said.count("\n") == 1 and len(said) < 5_000 and "\x1b" not in said


def test_a_sweep_that_is_nested_is_refused(capsys):
    assert simulate.main(["--scenario", "dba", "--sweep", "lr=" + "[" * 50_000]) == 2
