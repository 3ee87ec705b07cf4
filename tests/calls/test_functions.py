"""``run`` and ``study`` as a script or a notebook calls them: real runs, on a tiny folder of images."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib
import pytest
from matplotlib.figure import Figure

from attacks import Attack
from oleander.calls import functions
from oleander.calls.results import run_in, study_in
from oleander.experiment.records import RunFolder, session_files, write_scenario
from oleander.learning.updates import Aggregate, Cohort
from oleander.settings import outside
from oleander.settings.call import call_of, command_of
from oleander.settings.cli import load_scenario
from oleander.system.errors import RunError, UserError
from simulate import run, study
from strategies.fedavg import fedavg
from tests.in_process import run_here
from tests.programs import ROOT, assert_nothing_left_of, summary

TINY = {"scenario": "dba", "rounds": 2, "samples_per_client": 8, "batch_size": 4, "local_epochs": 1, "actors": 1}


def my_rule(cohort: Cohort) -> Aggregate:
    """FedAvg, half as far."""
    found = fedavg(cohort)
    return replace(found, delta=found.delta / 2)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_cannot_be_is_refused_and_leaves_nothing(here):
    with pytest.raises(UserError, match=r"strategi is not a setting; did you mean strategy"):
        run(strategi="krum")
    with pytest.raises(UserError, match=r"^strategy=<lambda>: <lambda> is no function"):
        study(strategy=lambda cohort: cohort)
    with pytest.raises(UserError, match="goes on when it is called again"):
        study(resume="x")
    with pytest.raises(
        UserError, match=r"^--attack my_rule.py: my_rule takes and returns Cohort → Aggregate"
    ) as refused:
        run(attack=my_rule, malicious=1)
    assert "/" not in str(refused.value).partition("known")[0]  # the file is the call's own
    assert not list(here.iterdir())


@pytest.mark.parametrize("error", [UserError("no"), RunError("broke"), KeyboardInterrupt()])
def test_a_run_that_did_not_begin_leaves_no_folder(error, here, monkeypatch):
    def fail(call, folder, verbose):
        assert Path(call.settings["out"]).is_dir()
        raise error

    monkeypatch.setattr(functions, "carry_out", fail)
    with pytest.raises(type(error)) as raised:
        run()
    assert not list(here.iterdir()) and not getattr(raised.value, "__notes__", [])


def test_the_log_of_a_run_that_failed_before_its_first_round_stays(here, monkeypatch):
    def fail(call, folder, verbose):
        (Path(call.settings["out"]) / "log.txt").write_text("why")
        raise RunError("Ray did not start; the run folder's log.txt says more")

    monkeypatch.setattr(functions, "carry_out", fail)
    with pytest.raises(RunError):
        run()
    (log,) = here.glob("runs/*/log.txt")
    assert log.read_text() == "why"


def my_push(attack: Attack) -> Attack:
    """Does nothing."""
    return attack


def test_clients_of_other_machines_get_no_function_of_this_session(here):
    with pytest.raises(
        UserError, match=r"^--ray-address 127.0.0.1:1: other machines have no function of this Python session"
    ):
        run(scenario="blend", attack=["blend", my_push], ray_address="127.0.0.1:1")


def test_an_interruption_says_where_the_finished_rounds_are_and_what_goes_on(here, monkeypatch):
    def interrupted(call, folder, verbose):
        (Path(call.settings.get("out", "s")) / "rounds.jsonl").write_text("x")
        raise KeyboardInterrupt

    monkeypatch.setattr(functions, "carry_out", interrupted)
    said = []
    for strategy in ("fedavg", my_rule):
        with pytest.raises(KeyboardInterrupt) as stopped:
            run(strategy=strategy)
        said += stopped.value.__notes__
    assert f"what is finished is in {here}/runs/custom-fedavg-s0-" in said[0] and "run(resume=" in said[0]
    assert "run(resume=" not in said[1]  # it could not


def test_the_source_of_a_function_is_in_the_run_folder_and_its_settings_say_that_they_do_not_do(tmp_path):
    experiment = command_of(call_of("run", tmp_path, None, {"strategy": ["clip", my_rule]})).flags.experiment
    source = session_files(experiment)["my_rule.py"]
    assert "FedAvg, half as far" in source and "from strategies.fedavg import fedavg as fedavg" in source
    folder = RunFolder(tmp_path / "run")
    folder.write_settings(experiment, {})
    folder.release()
    assert (tmp_path / "run" / "python-session" / "my_rule.py").read_text() == source
    head = (tmp_path / "run" / "config.toml").read_text().partition("\n")[0]
    assert (
        head
        == "# Cannot be run again as it is: my_rule.py was a function of a Python session; its source is python-session/my_rule.py"
    )
    (tmp_path / "python-session" / "my_rule.py").unlink()  # as when the call is over
    outside.forget()
    with pytest.raises(
        UserError, match=r"^--strategy my_rule was a function of a Python session: such a run cannot be resumed"
    ):
        load_scenario(str(tmp_path / "run" / "config.toml"))


def test_a_frame_without_pandas_names_the_command_that_installs_it(monkeypatch):
    from oleander.calls.results import Rounds

    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match="pip install pandas"):
        Rounds().frame()


@pytest.mark.network
def test_a_run_has_the_hash_of_the_command_line_twice_in_one_process_and_prints_nothing(here, capfd, task):
    data = {"dataset": "digits", "norm": "group"}  # no start is shipped for that
    found = [run(**TINY, **data, strategy="krum", seed=1) for _ in range(2)]
    assert capfd.readouterr() == ("", "")
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in (TINY | data).items()]
    run_here(*flags, "--strategy", "krum", "--seed", "1", out=here / "cli")
    hashes = {one.summary.model_sha256 for one in found}
    assert hashes == {summary(here / "cli")["model_sha256"]} and found[0].folder != found[1].folder
    one = found[0]
    assert one.folder.parent == here / "runs" and one.mta == one.rounds[-1].mta and 0 <= one.asr <= 1
    assert [record.round for record in one.rounds] == [0, 1, 2]
    assert one.settings["strategy"] == "krum" and one.settings["seed"] == 1 and "out" not in one.settings
    assert any("fresh model" in notice for notice in one.notices) and "notice: " in repr(one)
    backend = matplotlib.rcParams._get("backend") if hasattr(matplotlib.rcParams, "_get") else None
    for name in ("scores", "norms", "samples"):
        figure = one.figure(name)
        assert isinstance(figure, Figure) and figure._repr_png_().startswith(b"\x89PNG")
    assert "matplotlib.pyplot" not in sys.modules or (backend == matplotlib.rcParams._get("backend"))
    with pytest.raises(
        UserError, match="figure 'score': a run has none of this name; known: scores, norms, updates, samples"
    ):
        one.figure("score")
    pandas = pytest.importorskip("pandas")
    frame = one.frame()
    assert isinstance(frame, pandas.DataFrame) and list(frame.index) == [0, 1, 2]
    assert frame.mta.tolist() == [record.mta for record in one.rounds]
    again = run(resume=one.folder)  # finished: its results
    assert again.summary == one.summary
    environment = json.loads((one.folder / "environment.json").read_text())
    assert environment["command"].startswith("run(scenario='dba', rounds=2")


@pytest.mark.network
def test_a_study_with_a_function_and_what_is_kept_of_it(here):
    asked = TINY | {"dataset": "digits", "rounds": 1}
    first = study(**asked, sweep={"strategy": ["fedavg", ["clip", my_rule]]}, repeats=2)
    assert len(first.runs) == 4 and [row.setting for row in first.table] == ["fedavg", "clip+my_rule"]
    assert first.table[0].mta.n == 2 and first.table[0].mta.mean == sum(r.mta for r in first.runs[:2]) / 2
    assert isinstance(first.figure(), Figure)
    with pytest.raises(UserError, match="known: dba"):
        first.figure("scores")
    stamps = [(one.folder / "summary.json").stat().st_mtime_ns for one in first.runs]
    second = study(**asked, sweep={"strategy": ["fedavg", ["clip", my_rule]]}, repeats=2)
    assert second.folder == first.folder and second.table == first.table  # known again, though its file lay elsewhere
    assert [(one.folder / "summary.json").stat().st_mtime_ns for one in second.runs] == stamps
    assert (
        "python-session/my_rule.py" in (first.runs[2].folder / "report.html").read_text()
        or "my_rule.py" in first.notices[0]
    )
    assert "study(scenario='dba'" in json.loads((first.folder / "study.json").read_text())["command"]
    with pytest.raises(UserError, match="my_rule was a function of a Python session: such a run cannot be resumed"):
        run(resume=first.runs[-1].folder)


@pytest.mark.network
def test_an_interrupted_run_leaves_no_process_and_goes_on(here, tmp_path):
    """A script that is interrupted as by Ctrl-C in its terminal, once it has a round."""
    script = f"""
import sys, threading, time, os, signal, glob
sys.path.insert(0, {str(ROOT)!r})
from simulate import run
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore Ctrl-C
def stop():
    while not any(open(f).read().count("\\n") > 1 for f in glob.glob("runs/*/rounds.jsonl")):
        time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=stop, daemon=True).start()
handler = signal.getsignal(signal.SIGINT)
try:
    run(**{TINY | {"rounds": 400, "dataset": "digits"}!r})
except KeyboardInterrupt as interrupted:
    assert signal.getsignal(signal.SIGINT) is handler
    print(interrupted.__notes__[0])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=280,
        env=os.environ | {"OLEANDER_TEST": str(tmp_path)},
    )  # fmt: skip
    assert done.stdout.startswith("what is finished is in ") and not done.stderr
    assert_nothing_left_of(tmp_path)
    (folder,) = (here / "runs").iterdir()
    assert (folder / "state.safetensors").exists() and not (folder / "summary.json").exists()


def test_results_of_what_is_no_run_are_refused(tmp_path):
    for read in (run_in, study_in):
        with pytest.raises(UserError):
            read(tmp_path)


def test_a_scenario_of_ours_has_no_warning_in_its_head(tmp_path):
    write_scenario(tmp_path / "config.toml", load_scenario("dba"))
    assert (tmp_path / "config.toml").read_text().startswith("# Running this again")
