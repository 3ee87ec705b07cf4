"""What is said of a run or a study that stops: what is finished, where, and the exact command that goes on."""

import json
import shlex
import sys
from pathlib import Path

import pytest

from oleander.experiment.remaining import left_of_run, left_of_study
from oleander.system import environment, itself, remains
from oleander.system.console import say_error
from oleander.system.errors import RunError, UserError
from oleander.system.remains import leaving


@pytest.fixture
def called(monkeypatch):
    def as_if(words, script):
        """As when a shell was given these words, of which the first few are the interpreter's and the file's."""
        given = shlex.split(words)
        start = 1 + next(
            i for i, word in enumerate(given) if Path(word).name.startswith(("simulate", "server", "oleander"))
        )
        monkeypatch.setattr(sys, "orig_argv", given)
        monkeypatch.setattr(sys, "argv", [script, *given[start:]])

    return as_if


@pytest.mark.parametrize(
    ("words", "script", "part", "again"),
    [
        ("python simulate.py --rounds 3", "simulate.py", "simulate", "python simulate.py"),
        ("/v/bin/python3 ../a/simulate.py", "../a/simulate.py", "simulate", "/v/bin/python3 ../a/simulate.py"),
        ("python -W ignore simulate.py", "simulate.py", "simulate", "python -W ignore simulate.py"),
        ("python server.py --port 9", "server.py", "server", "python server.py"),
        ("python -m oleander --rounds 3", "/x/oleander/__main__.py", "simulate", "python -m oleander"),
        ("python -m oleander server", "/x/oleander/__main__.py", "server", "python -m oleander server"),
        ("/v/bin/python /v/bin/oleander x", "/v/bin/oleander", "simulate", "/v/bin/oleander"),
        ("/v/bin/python /v/bin/oleander server", "/v/bin/oleander", "server", "/v/bin/oleander server"),
    ],
)
def test_a_program_is_started_again_as_it_was(called, words, script, part, again):
    called(words, script)
    assert shlex.join(itself.called(part)) == again


def test_the_command_that_a_shell_finds_by_its_name_is_named_by_it(called, monkeypatch):
    called("/v/bin/python /v/bin/oleander", "/v/bin/oleander")
    monkeypatch.setattr(itself.shutil, "which", {"oleander": "/v/bin/oleander"}.get)
    assert itself.called() == ["oleander"]


def test_where_the_start_cannot_be_told_it_is_the_usual_one(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/v/bin/pytest", "-q"])
    assert itself.called("server") == itself.command("server").split()


def run_in(folder, rounds):
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text("")
    (folder / "rounds.jsonl").write_text("{}\n" * rounds + '{"cut off')
    return folder


def test_of_a_run_it_says_how_many_rounds_where_and_how_it_goes_on(called, tmp_path):
    called("python simulate.py --rounds 5", "simulate.py")
    folder = run_in(tmp_path / "my runs" / "it's one", 3)
    said = left_of_run(folder, 5).splitlines()
    assert said[0] == f"2 of 5 rounds are finished; finished rounds are in {folder}"
    assert said[1].startswith("to go on: python simulate.py --resume ")
    assert shlex.split(said[1])[-1] == str(folder)


def test_a_server_goes_on_where_its_clients_look_for_it(called, tmp_path):
    import server

    called("python server.py --port 9", "server.py")
    flags = server.ServerFlags(experiment=None, port=9, keys="my keys", host="0.0.0.0")
    said = left_of_run(run_in(tmp_path / "run", 1), 5, "server", server.network_flags(flags))
    assert said.splitlines()[0].startswith("0 of 5 rounds are finished")
    assert said.splitlines()[1] == (
        f"to go on: python server.py --resume {tmp_path / 'run'} --host 0.0.0.0 --port 9 --keys 'my keys'"
    )
    assert server.network_flags(server.ServerFlags(experiment=None)) == []
    assert server.network_flags(server.ServerFlags(experiment=None, insecure=True)) == ["--insecure"]


def test_a_run_that_had_not_begun_cannot_go_on_and_one_with_a_sessions_function_neither(tmp_path):
    assert "to go on" not in left_of_run(tmp_path / "nowhere", 5)
    folder = run_in(tmp_path / "run", 2)
    (folder / "python-session").mkdir()
    assert "it cannot go on" in left_of_run(folder, 5) and "--resume" not in left_of_run(folder, 5)


def test_a_study_goes_on_by_its_own_command_quoted_as_it_must_be(called, tmp_path):
    called("python simulate.py --sweep strategy=fedavg,krum --out 'my study' --repeats 2", "simulate.py")
    folder = tmp_path / "my study"
    runs = [run_in(folder / "runs" / name, 1) for name in "abc"]
    assert left_of_study(folder, runs) == ""  # nothing of it is there
    (folder / "study.json").write_text(json.dumps({}))
    (runs[1] / "summary.json").write_text("{}")
    first, second = left_of_study(folder, runs).splitlines()
    assert first == f"1 of 3 runs are finished; finished rounds are in {folder}"
    assert second == "to go on: python simulate.py --sweep strategy=fedavg,krum --out 'my study' --repeats 2"


def test_a_call_in_python_goes_on_by_a_call_which_its_caller_says(monkeypatch, tmp_path):
    monkeypatch.setattr(environment, "_CALL", ["run()"])
    assert left_of_run(run_in(tmp_path / "run", 2), 5) == ""


def test_an_error_says_what_is_left_once_and_a_refusal_does_not(capsys):
    for error, wanted in (
        (RunError("it failed"), ["error: it failed", "in [folder]"]),
        (UserError("no"), ["error: no"]),
    ):
        with pytest.raises(type(error)), leaving(lambda: "in [folder]"):
            raise error
        say_error(error)
        assert capsys.readouterr().err.splitlines() == wanted
        assert remains.remains() == ""


def test_what_is_left_is_forgotten_when_all_is_well_and_never_hides_why_it_stopped():
    with leaving(lambda: "a folder"):
        assert remains.remains() == "a folder\n"
    assert remains.remains() == ""
    with leaving(lambda: 1 / 0):
        assert remains.remains() == ""
