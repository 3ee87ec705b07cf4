"""``--dry-run``, ``--report`` and ``--version``: what they say and refuse, and that they write nothing that they should not."""

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

import server
import simulate
from oleander.experiment.engine import actor_count
from oleander.experiment.estimate import Measured, estimate, scorings, steps_of
from oleander.experiment.prepare import Sources, prepare
from oleander.experiment.records import RunFolder
from oleander.network import client
from oleander.reports.dry import duration, size
from oleander.settings.cli import parse
from oleander.system import itself
from oleander.system.cache import cache_dir
from oleander.system.environment import environment
from tests.experiment.test_records import ROUND, SUMMARY
from tests.programs import TINY

FLAGS = [*TINY, "--precision", "fp32"]


def everything_in(*folders):
    return {(path, path.lstat().st_mtime_ns) for folder in folders for path in Path(folder).rglob("*")}


@pytest.fixture
def here(tmp_path, monkeypatch, image_folder):
    """An empty current folder and an empty cache; gives the images' flag."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return ["--dataset", f"folder:{image_folder}"]


def test_a_dry_run_says_what_would_be_run_and_writes_nothing(here, tmp_path, capsys):
    before = everything_in(tmp_path)
    assert simulate.main([*FLAGS, *here, "--dry-run"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "nothing is run" in said and "1 run, into runs/dba-fedavg-s0-" in said
    assert "attack dba" in said and "rounds 2" in said and "2 rounds of 6 clients, 1 at a time, 2 steps each" in said
    assert re.search(r"about \d+ (s|min) of training and scoring: an estimate", said)
    assert re.search(r"about [\d.]+ [GM]B of memory", said)
    assert everything_in(tmp_path) == before


def test_a_dry_study_names_its_runs_and_those_that_are_finished(here, tmp_path, capsys):
    words = [*FLAGS, *here, "--sweep", "strategy=krum,fedavg", "--repeats", "2", "--out", "study", "--dry-run"]
    assert simulate.main(words) == 0
    said = capsys.readouterr().out
    runs = re.findall(r"^ +to run +runs/(\S+) +strategy (\w+), seed (\d)$", said, re.M)
    assert {(strategy, seed) for _, strategy, seed in runs} == {(r, s) for r in ("krum", "fedavg") for s in "01"}
    assert "4 runs, 0 of them finished already" in said and not Path("study").exists()
    folder = Path("study") / "runs" / runs[0][0]
    finished(folder, here, seconds=100.0)
    (Path("study") / "study.json").write_text("{}")
    before = everything_in(tmp_path)
    assert simulate.main(words) == 0
    said = capsys.readouterr().out
    assert re.search(rf"^ +finished +runs/{runs[0][0]} ", said, re.M) and "4 runs, 1 of them finished already" in said
    assert "about 5 min: the finished run took 100 s" in said and everything_in(tmp_path) == before


def finished(folder, images, seconds):
    """A run's folder as a finished run leaves it, as far as it is looked at."""
    experiment = parse([*FLAGS, *images])
    run = RunFolder(folder, again=True)
    run.write_settings(experiment, environment("cpu", None, 1))
    for number in range(experiment.rounds + 1):
        run.append(replace(ROUND, round=number))
    run.write_summary(replace(SUMMARY, seconds=SUMMARY.seconds | {"total": seconds}))
    run.release()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--target", "10"], ["--target 10", "cow"]),
        (["--samples-per-client", "2000"], ["12000 images"]),
        (["--strategy", "krumm"], ["krumm", "multi_krum"]),
        (["--out", "file"], ["--out"]),
        (["--out", "file/below"], ["--out file/below", "is a file"]),
        (["--out", "/proc/no"], ["--out /proc/no"]),
        (["--out", "full"], ["full", "not empty"]),
        (["--out", "full", "--repeats", "2"], ["full", "holds no study"]),
        (["--ray-address", "127.0.0.1:1"], ["127.0.0.1:1", "no Ray cluster"]),
        (["--dataset", "cifar10"], ["CIFAR-10 is not there", "a dry run downloads and unpacks nothing"]),
        (["--resume", "full"], ["--resume full", "--dry-run"]),
    ],
)
def test_a_dry_run_refuses_what_a_run_does(here, tmp_path, capsys, flags, words):
    Path("file").write_text("x")
    Path("full").mkdir()
    (Path("full") / "mine.txt").write_text("x")
    before = everything_in(tmp_path)
    asked = flags if "--resume" in flags else [*FLAGS, *here, *flags]
    if "--ray-address" in asked:  # which goes with no --actors
        del asked[asked.index("--actors") : asked.index("--actors") + 2]
    assert simulate.main([*asked, "--dry-run"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert all(word in said for word in words) and everything_in(tmp_path) == before


def test_a_dry_run_leaves_a_damaged_cache_as_it_is(here, tmp_path, capsys):
    prepare(parse([*FLAGS, *here]), Sources(print))
    meta = next(cache_dir().glob("*/meta.json"))
    meta.write_text("{}")
    before = everything_in(tmp_path)
    assert simulate.main([*FLAGS, *here, "--dry-run"]) == 0
    said = " ".join(capsys.readouterr().out.replace("│", "").split())
    assert "is damaged" in said and everything_in(tmp_path) == before


def test_an_estimate_is_of_the_rounds_the_clients_that_train_in_turn_and_the_scorings(here):
    setup = prepare(parse([*FLAGS, *here, "--rounds", "4"]), Sources(print))
    part = Measured(step=2.0, image=0.5, own=10**8, shared=10**9, gpu=0)
    assert (actor_count(setup.experiment), steps_of(setup), scorings(setup)) == (1, 2, 5)
    found = estimate(setup, part)
    assert found.seconds == 4 * 6 * 2 * 2.0 + 5 * len(setup.dataset.test_labels) * 0.5
    assert found.memory == 10**9 + 2 * 10**8 + 2 * 6 * setup.reply_bytes
    three = replace(setup, experiment=setup.experiment.changed(actors=4, evaluate="last"))
    assert estimate(three, part).seconds == 4 * math.ceil(6 / 4) * 2 * 2.0 + 2 * len(setup.dataset.test_labels) * 0.5


def test_durations_and_sizes_in_words():
    assert [duration(s) for s in (0.2, 89, 91, 3600, 9000)] == ["1 s", "89 s", "2 min", "60 min", "2 h 30 min"]
    assert [size(n) for n in (4e8, 5e8, 1.26e9)] == ["400 MB", "0.5 GB", "1.3 GB"]


@pytest.mark.parametrize("main", [simulate.main, server.main, client.main])
def test_every_command_says_the_versions(main, capsys):
    assert main(["--version"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"oleander {itself.version()} (Python 3") and said.count("\n") == 1
    assert all(f"{name} " in said for name in ("flwr", "ray", "torch"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--report"], "wanted the folder"),
        (["--report", "stopped", "--out"], "--out : wanted the folder"),
        (["--report", "stopped", "full"], "none of the 2 runs is finished"),
        (["--report", "empty", "stopped"], "empty: holds neither"),
        (["--report", "."], "none of the 2 runs is finished"),
        (["--report", "no"], "--report no: is not there"),
        (["--report="], "wanted the folder"),
        (["--report", "empty"], "holds neither a run"),
        (["--report", "stopped"], "not finished; python simulate.py --resume stopped"),
        (["--report", "stopped", "--seed", "3"], "no other flag"),
        (["--seed", "3", "--report", "stopped"], "no other flag"),
    ],
)
def test_a_report_is_refused_where_there_is_none(here, tmp_path, capsys, words, said):
    Path("empty").mkdir()
    finished(Path("stopped"), here, 1.0)
    (Path("stopped") / "summary.json").unlink()
    finished(Path("full"), here, 1.0)
    (Path("full") / "summary.json").unlink()
    before = everything_in(tmp_path)
    assert simulate.main(words) == 2
    assert said in " ".join(capsys.readouterr().err.split()) and everything_in(tmp_path) == before


def test_server_py_says_whose_these_flags_are(here, capsys):
    for flags, name in (
        (["--dry-run"], "--dry-run"),
        (["--report", "x"], "--report"),
        (["--repeats", "2"], "runs one experiment"),
    ):
        assert server.main([*FLAGS, *here, *flags]) == 2
        assert name in " ".join(capsys.readouterr().err.split())
