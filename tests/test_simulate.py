"""The main job as a user runs it: a process of its own, Flower's engine, Ray, and what it leaves behind."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib

import psutil
import pytest
from PIL import Image

from experiment.cli import parse
from experiment.errors import UserError
from experiment.prepare import Sources, prepare
from experiment.records import RunFolder, read_rounds
from tests.programs import ROOT, TINY, assert_nothing_left_of, command, run, summary


@pytest.fixture(scope="module")
def one_actor(image_folder, tmp_path_factory):
    """A DBA run with one actor: its folder and what it printed."""
    out = tmp_path_factory.mktemp("runs") / "one"
    return out, run(*TINY, "--dataset", f"folder:{image_folder}", "--actors", 1, "--out", out)


def test_run_folder_is_whole(one_actor, image_folder):
    out, printed = one_actor
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


def test_output_is_readable_when_piped_and_free_of_engine_chatter(one_actor):
    _, printed = one_actor
    assert "\x1b" not in printed.stdout and "\r" not in printed.stdout
    assert re.search(r"round 2/2 +MTA +\d+\.\d % +ASR +\d+\.\d %", printed.stdout)
    assert "NOTICE" in printed.stdout and "fresh model" in printed.stdout
    assert "DEPRECATED" not in printed.stdout + printed.stderr and "INFO" not in printed.stdout
    assert max(map(len, printed.stdout.splitlines())) <= 130
    assert "[ROUND 2/2]" in (one_actor[0] / "log.txt").read_text()


def test_two_actors_and_the_runs_own_config_give_the_same_model_another_seed_another(one_actor, tmp_path):
    out, _ = one_actor
    config = out / "config.toml"
    assert tomllib.loads(config.read_text())["scenario"] == "dba"
    run("--scenario", config, "--actors", 2, "--out", tmp_path / "two")
    assert summary(tmp_path / "two")["model_sha256"] == summary(out)["model_sha256"]
    assert [(r.mta, r.asr) for r in read_rounds(tmp_path / "two")] == [(r.mta, r.asr) for r in read_rounds(out)]
    run("--scenario", config, "--seed", 1, "--out", tmp_path / "seed")
    assert summary(tmp_path / "seed")["model_sha256"] != summary(out)["model_sha256"]


def test_fp32_too_is_bit_exact_for_any_number_of_actors(image_folder, tmp_path):
    flags = [*TINY, "--rounds", 1, "--precision", "fp32", "--dataset", f"folder:{image_folder}"]
    for actors in (1, 2):
        run(*flags, "--actors", actors, "--out", tmp_path / str(actors))
    assert summary(tmp_path / "1")["model_sha256"] == summary(tmp_path / "2")["model_sha256"]
    settings = tomllib.loads((tmp_path / "1" / "config.toml").read_text())
    assert (settings["precision"], settings["client_threads"] >= 1) == ("fp32", True)


def test_the_baseline_is_remembered_unless_told_otherwise_and_scores_may_wait_for_the_last_round(
    one_actor, cache, tmp_path
):
    """A remembered score that is not true shows where it is used."""
    out, _ = one_actor
    true = summary(out)["baseline_mta"]
    for file in (cache / "oleander" / "scores").iterdir():
        file.write_text(json.dumps(json.loads(file.read_text()) | {"mta": 0.125}))
    config = ("--scenario", out / "config.toml", "--evaluate-asr", "last")
    printed = run(*config, "--out", tmp_path / "known").stdout
    assert summary(tmp_path / "known")["baseline_mta"] == 0.125 != true
    rounds = read_rounds(tmp_path / "known")
    assert rounds[0].asr is not None and rounds[1].asr is None
    assert (rounds[2].mta, rounds[2].asr) == (summary(out)["mta"], summary(out)["asr"])
    assert re.search(r"round 1/2 +MTA +\d+\.\d % +ASR +–", printed)
    run(*config, "--no-cache", "--evaluate", "last", "--out", tmp_path / "again")
    again = read_rounds(tmp_path / "again")
    assert summary(tmp_path / "again")["baseline_mta"] == again[0].mta == true
    assert (again[1].mta, again[1].asr, again[1].loss) == (None, None, None)
    assert (again[2].mta, again[2].asr) == (rounds[2].mta, rounds[2].asr)


def test_the_program_starts_without_pytorch_and_flower_so_that_ray_can_start_first():
    script = "import sys, simulate; print([m for m in ('torch', 'flwr', 'ray', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_an_out_folder_that_holds_something_is_refused_and_left_alone(one_actor):
    before = sorted(p.name for p in one_actor[0].iterdir())
    result = run(*TINY, "--dataset", "toy", "--out", one_actor[0], code=2)
    assert str(one_actor[0]) in result.stderr and "not empty" in result.stderr
    assert sorted(p.name for p in one_actor[0].iterdir()) == before


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--strategy", "krumm"], ["krumm", "multi_krum"]),
        (["--ray-address", "127.0.0.1:1"], ["127.0.0.1:1", "no Ray cluster"]),
        (["--out", "x" * 300], ["File name too long"]),
    ],
)
def test_what_cannot_be_exits_with_2_and_writes_nothing(flags, words, tmp_path):
    before = set((ROOT / "runs").glob("*"))
    out = [] if "--out" in flags else ["--out", tmp_path / "out"]
    result = run("--scenario", "dba", "--dataset", "toy", *flags, *out, code=2)
    assert all(word in " ".join(result.stderr.split()) for word in words), result.stderr
    assert not (tmp_path / "out").exists()
    assert set((ROOT / "runs").glob("*")) == before


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--strategy", "krum", "--clients-per-round", "4"], ["n = 4", "f = 1"]),
        (["--target", "10"], ["--target 10", "truck"]),
        (["--samples-per-client", "2000"], ["12000 images", "10000"]),
        (["--weights", "/no/such/file"], ["/no/such/file"]),
        (["--out", "/proc/no"], ["/proc/no"]),
        (["--poison-rate", "7"], ["poison_rate = 7"]),
        (["--client-gpus", "64"], ["--client-gpus 64", "GPUs"]),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(flags, words):
    """The same without a process each: what the program does with a refusal is tested above."""
    with pytest.raises(UserError) as refused:
        experiment = parse(["--scenario", "dba", "--dataset", "toy", *flags])
        RunFolder.of(prepare(experiment, Sources(print)).experiment)
    assert all(word in str(refused.value) for word in words), refused.value


def test_without_arguments_it_prints_what_there_is():
    printed = run().stdout
    for name in ("dba", "course", "blend", "scaling", "fedavg", "multi_krum", "median", "clip (filter)"):
        assert re.search(rf"^ +{re.escape(name)} ", printed, re.M), name


# ---- faults ----------------------------------------------------------------------------------------------------------

CAUSES = {
    "raise": "out of cheese",
    "nan": "not finite",
    "shape": "its weights have shape (1,), not (2795811,)",
    "examples": "claims 1000000 examples, but its shard has 8",
    "kill": "its process died",
}


@pytest.mark.parametrize("fault", ["raise", "kill"])
def test_a_failing_client_ends_the_run_with_1_naming_client_round_and_cause(fault, image_folder, tmp_path):
    began = time.monotonic()
    flags = [*TINY, "--dataset", f"folder:{image_folder}", "--actors", 1, "--out", tmp_path / "out"]
    result = run(f"2={fault}", *flags, module="tests.faulty", code=1, mark=tmp_path)
    said = " ".join(result.stderr.split())
    assert "round 1, client 2" in said and CAUSES[fault] in said
    assert [r.round for r in read_rounds(tmp_path / "out")] == [0]
    assert not (tmp_path / "out" / "summary.json").exists()
    assert time.monotonic() - began < 120
    assert_nothing_left_of(tmp_path)


def test_every_fault_can_be_dropped_and_is_recorded_and_a_dead_actor_works_again(image_folder, tmp_path):
    faults = ",".join(f"{client}={fault}" for client, fault in enumerate(CAUSES))
    flags = [
        *TINY,
        "--dataset",
        f"folder:{image_folder}",
        "--actors",
        1,
        "--on-bad-reply",
        "drop",
        "--out",
        tmp_path / "out",
    ]
    result = run(faults, *flags, module="tests.faulty")
    first, second = read_rounds(tmp_path / "out")[1:]
    assert first.client_ids == [5] and [d["client"] for d in first.dropped] == list(range(5))
    for dropped, words in zip(first.dropped, CAUSES.values(), strict=True):
        assert words in dropped["cause"]
        assert f"client {dropped['client']} was left out" in result.stdout
    assert second.client_ids == list(range(6)) and not second.dropped


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_soon_keeps_finished_rounds_and_leaves_no_process(number, code, image_folder, tmp_path):
    out = tmp_path / "out"
    flags = [*TINY, "--rounds", 500, "--dataset", f"folder:{image_folder}", "--out", out]
    process = subprocess.Popen(command(*flags), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 150
        while not (out / "rounds.jsonl").exists() or len((out / "rounds.jsonl").read_text().splitlines()) < 3:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        children = psutil.Process(process.pid).children(recursive=True)
        began = time.monotonic()
        process.send_signal(number)
        process.wait(20)
        assert time.monotonic() - began < 5
        assert process.returncode == code
    finally:
        process.kill()
    assert "Traceback" not in process.stderr.read()
    assert len(children) > 2
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]
    assert len(read_rounds(out)) >= 3


@pytest.mark.parametrize("seconds_after_log", [0.0, 1.0, 2.5])
def test_a_signal_while_the_engine_starts(seconds_after_log, image_folder, tmp_path):
    out = tmp_path / "out"
    flags = [*TINY, "--dataset", f"folder:{image_folder}", "--out", out]
    environment = os.environ | {"OLEANDER_TEST": str(tmp_path)}
    process = subprocess.Popen(
        command(*flags), cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        while not (out / "log.txt").exists():
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(seconds_after_log)
        process.send_signal(signal.SIGTERM)
        printed, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 143, printed + errors
    assert "Traceback" not in printed + errors
    assert_nothing_left_of(tmp_path)
