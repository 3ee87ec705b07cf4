"""The main job as a user runs it: a process of its own, Flower's engine, Ray, and what it leaves behind."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
from PIL import Image

from oleander.experiment.prepare import Sources, prepare
from oleander.experiment.records import RunFolder, read_rounds
from oleander.settings.cli import parse
from oleander.system.cache import sealed, unsealed
from oleander.system.errors import RunError, UserError
from simulate import main, simulate
from tests.in_process import run_here
from tests.programs import DIGITS, ROOT, TINY, run, summary


@pytest.fixture(scope="module")
def two_actors(image_folder, tmp_path_factory):
    """A DBA run with two actors, of ResNet18Light on coloured pictures: its folder and what it printed."""
    out = tmp_path_factory.mktemp("runs") / "two"
    return out, run(*TINY, "--dataset", f"folder:{image_folder}", "--actors", 2, "--out", out)


def test_run_folder_is_whole(two_actors, image_folder):
    out, printed = two_actors
    found = summary(out)
    assert (found["scenario"], found["strategy"], found["attack"], found["seed"]) == ("dba", "fedavg", "dba", 0)
    assert found["dataset"] == f"folder:{image_folder.name}" and found["malicious"] == [0, 1, 2]
    assert set(found["seconds"]) == {"total", "startup", "train", "aggregate", "evaluate", "other"}
    assert sum(v for k, v in found["seconds"].items() if k != "total") == pytest.approx(found["seconds"]["total"])
    assert all(v >= 0 for v in found["seconds"].values())
    sha256 = __import__("hashlib").sha256((out / "model.safetensors").read_bytes()).hexdigest()
    assert found["model_sha256"] == sha256 and sha256 in printed.stdout
    rounds = read_rounds(out)
    assert [r.round for r in rounds] == [0, 1, 2]
    assert rounds[1].client_ids == list(range(6)) and rounds[1].malicious == [True] * 3 + [False] * 3
    assert all(norm > 0 for norm in rounds[1].norms_before) and sum(rounds[1].influence) == pytest.approx(1)
    assert (found["mta"], found["asr"]) == (rounds[2].mta, rounds[2].asr)
    assert (found["baseline_mta"], found["baseline_asr"]) == (rounds[0].mta, rounds[0].asr)
    environment = json.loads((out / "environment.json").read_text())
    assert environment["packages"]["flwr"].startswith("1.41") and environment["cpus"] == os.cpu_count()
    for name in ("scores", "norms", "samples"):
        assert Image.open(out / "figures" / f"{name}.png").width > 500
        assert "<svg" in (out / "figures" / f"{name}.svg").read_text()


def test_output_is_readable_when_piped_and_free_of_engine_chatter(two_actors):
    _, printed = two_actors
    assert "\x1b" not in printed.stdout and "\r" not in printed.stdout
    assert re.search(r"round 2/2 +MTA +\d+\.\d % +ASR +\d+\.\d %", printed.stdout)
    assert "NOTICE" in printed.stdout and "fresh model" in printed.stdout
    assert "DEPRECATED" not in printed.stdout + printed.stderr and "INFO" not in printed.stdout
    assert max(map(len, printed.stdout.splitlines())) <= 130
    assert "[ROUND 2/2]" in (two_actors[0] / "log.txt").read_text()


def test_the_runs_own_config_gives_the_same_model_with_two_actors_and_with_one_process_for_all(
    two_actors, tmp_path, task
):
    """(With one actor: ``tests/experiment/test_resume.py``.)"""
    out, _ = two_actors
    config = out / "config.toml"
    assert tomllib.loads(config.read_text())["scenario"] == "dba"
    run_here("--scenario", config, out=tmp_path / "one")
    assert summary(tmp_path / "one")["model_sha256"] == summary(out)["model_sha256"]
    assert [(r.mta, r.asr) for r in read_rounds(tmp_path / "one")] == [(r.mta, r.asr) for r in read_rounds(out)]


def test_fp32_too_is_bit_exact_for_any_number_of_actors(two_actors, image_folder, tmp_path, task):
    if tomllib.loads((two_actors[0] / "config.toml").read_text())["precision"] == "fp32":
        pytest.skip("auto is fp32 on this machine: tested above")
    flags = [*TINY, "--rounds", 1, "--precision", "fp32", "--dataset", f"folder:{image_folder}"]
    run(*flags, "--actors", 2, "--out", tmp_path / "2")
    run_here("--scenario", tmp_path / "2" / "config.toml", out=tmp_path / "1")
    assert summary(tmp_path / "1")["model_sha256"] == summary(tmp_path / "2")["model_sha256"]
    settings = tomllib.loads((tmp_path / "1" / "config.toml").read_text())
    assert (settings["precision"], settings["client_threads"] >= 1) == ("fp32", True)


def test_the_baseline_is_remembered_unless_told_otherwise_and_scores_may_wait_for_the_last_round(
    tmp_path, monkeypatch, task
):
    """A remembered score that is not true shows where it is used."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    out = tmp_path / "first"
    run_here(*DIGITS, out=out)
    true = summary(out)["baseline_mta"]
    for file in (tmp_path / "cache" / "oleander" / "scores").iterdir():
        known = unsealed(json.loads(file.read_text()))
        file.write_text(json.dumps(sealed(known | {"content": known["content"] | {"mta": 0.125}})))
    config = ("--scenario", out / "config.toml", "--evaluate-asr", "last")
    printed = run_here(*config, out=tmp_path / "known")
    assert summary(tmp_path / "known")["baseline_mta"] == 0.125 != true
    rounds = read_rounds(tmp_path / "known")
    assert rounds[0].asr is not None and rounds[1].asr is None
    assert (rounds[2].mta, rounds[2].asr) == (summary(out)["mta"], summary(out)["asr"])
    assert re.search(r"round 1/2 +MTA +\d+\.\d % +ASR +–", printed)
    run_here(*config, "--no-cache", "--evaluate", "last", out=tmp_path / "again")
    again = read_rounds(tmp_path / "again")
    assert summary(tmp_path / "again")["baseline_mta"] == again[0].mta == true
    assert (again[1].mta, again[1].asr, again[1].loss) == (None, None, None)
    assert (again[2].mta, again[2].asr) == (rounds[2].mta, rounds[2].asr)


def test_the_program_starts_without_pytorch_and_flower_so_that_ray_can_start_first():
    script = "import sys, simulate; print([m for m in ('torch', 'flwr', 'ray', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_an_out_folder_that_holds_something_is_refused_and_left_alone(two_actors, monkeypatch, capfd, same_environment):
    out, _ = two_actors
    monkeypatch.setattr("simulate.running_ray", lambda experiment: contextlib.nullcontext())
    before = sorted(p.name for p in out.iterdir())
    assert main(["--scenario", str(out / "config.toml"), "--out", str(out)]) == 2
    said = capfd.readouterr().err
    assert str(out) in said and "not empty" in said and "Traceback" not in said
    assert sorted(p.name for p in out.iterdir()) == before


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--strategy", "krumm"], ["krumm", "multi_krum"]),
        (["--ray-address", "127.0.0.1:1"], ["127.0.0.1:1", "no Ray cluster"]),
    ],
)
def test_what_cannot_be_exits_with_2_and_writes_nothing(flags, words, tmp_path):
    before = set((ROOT / "runs").glob("*"))
    result = run("--scenario", "dba", "--dataset", "digits", *flags, "--out", tmp_path / "out", code=2)
    assert all(word in " ".join(result.stderr.split()) for word in words), result.stderr
    assert not (tmp_path / "out").exists()
    assert set((ROOT / "runs").glob("*")) == before


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--strategy", "krum", "--clients-per-round", "4"], ["n = 4", "f = 1"]),
        (["--target", "10"], ["--target 10", "cow"]),
        (["--samples-per-client", "2000"], ["12000 images", "72"]),
        (["--weights", "/no/such/file"], ["/no/such/file"]),
        (["--out", "/proc/no"], ["/proc/no"]),
        (["--out", "x" * 300], ["File name too long"]),
        (["--poison-rate", "7"], ["poison_rate = 7"]),
        (["--client-gpus", "64"], ["--client-gpus 64", "GPUs"]),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(flags, words, image_folder):
    """The same without a process each: what the program does with a refusal is tested above."""
    with pytest.raises(UserError) as refused:
        experiment = parse([*TINY, "--dataset", f"folder:{image_folder}", *flags])
        RunFolder.of(prepare(experiment, Sources(print)).experiment)
    assert all(word in str(refused.value) for word in words), refused.value


def test_without_arguments_it_prints_what_there_is(capsys, same_environment):
    assert main([]) == 0
    printed = capsys.readouterr().out
    for name in ("dba", "course", "blend", "scaling", "fedavg", "multi_krum", "median", "clip (filter)"):
        assert re.search(rf"^ +{re.escape(name)} ", printed, re.M), name


def test_a_report_is_made_again_from_the_records(two_actors, tmp_path, capsys, same_environment):
    folder = tmp_path / "run"
    shutil.copytree(two_actors[0], folder)
    whole = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    shutil.rmtree(folder / "figures")
    (folder / "report.html").unlink()
    assert main(["--report", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert summary(folder)["model_sha256"] in printed and "round" in printed
    now = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert now.keys() == whole.keys()
    assert all(
        now[name] == whole[name] for name in whole if name.suffix in (".json", ".jsonl", ".toml", ".safetensors")
    )


def test_a_refusal_is_said_also_where_ray_does_not_start(monkeypatch, same_environment):
    @contextlib.contextmanager
    def no_ray(experiment):
        raise RunError("Ray did not start: for a test")
        yield

    def refused(work, chatter):
        raise UserError("what was asked for cannot be")

    monkeypatch.setattr("simulate.running_ray", no_ray)
    monkeypatch.setattr("simulate._prepared", refused)
    with pytest.raises(UserError, match="cannot be"):
        simulate(parse(["--scenario", "dba"]))
    monkeypatch.setattr("simulate._prepared", lambda work, chatter: None)
    with pytest.raises(RunError, match="did not start"):
        simulate(parse(["--scenario", "dba"]))
