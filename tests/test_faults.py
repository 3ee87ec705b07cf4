"""What fails while a simulation runs, and signals: said, recorded, and nothing left behind."""

import itertools
import os
import signal
import subprocess
import textwrap
import time

import psutil
import pytest

from oleander.datasets.digits import CLASSES, SPACE
from oleander.experiment.records import read_rounds
from oleander.learning.weights import layout_of
from tests.programs import DIGITS, ROOT, TINY, assert_nothing_left_of, command, run

CAUSES = {
    "raise": "out of cheese",
    "nan": "not finite",
    "shape": f"its weights have shape (1,), not ({layout_of('cnn', len(CLASSES), SPACE).weight_count},)",
    "examples": "claims 1000000 examples, but its shard has 8",
    "kill": "its process died",
}


@pytest.mark.parametrize("fault", [pytest.param("raise", marks=pytest.mark.network), "kill"])
def test_a_failing_client_ends_the_run_with_1_naming_client_round_and_cause(fault, tmp_path):
    began = time.monotonic()
    flags = [*DIGITS, "--out", tmp_path / "out"]
    result = run(f"2={fault}", *flags, module="tests.faulty", code=1, mark=tmp_path)
    said = " ".join(result.stderr.split())
    assert "round 1, client 2" in said and CAUSES[fault] in said
    assert [r.round for r in read_rounds(tmp_path / "out")] == [0]
    assert not (tmp_path / "out" / "summary.json").exists()
    assert time.monotonic() - began < 120
    assert_nothing_left_of(tmp_path)


def test_every_fault_can_be_dropped_and_is_recorded_and_a_dead_actor_works_again(tmp_path):
    faults = ",".join(f"{client}={fault}" for client, fault in enumerate(CAUSES))
    flags = [*DIGITS, "--on-bad-reply", "drop", "--out", tmp_path / "out"]
    result = run(faults, *flags, module="tests.faulty")
    first, second = read_rounds(tmp_path / "out")[1:]
    assert first.client_ids == [5] and [d["client"] for d in first.dropped] == list(range(5))
    for dropped, words in zip(first.dropped, CAUSES.values(), strict=True):
        assert words in dropped["cause"]
        assert f"client {dropped['client']} was left out" in result.stdout
    assert second.client_ids == list(range(6)) and not second.dropped


def test_a_signal_ends_it_soon_keeps_finished_rounds_and_leaves_no_process(tmp_path):
    """Others: ``tests/network/test_ray_dies.py``."""
    out = tmp_path / "out"
    flags = [*DIGITS, "--rounds", 5000, "--evaluate", "last", "--out", out]
    process = subprocess.Popen(command(*flags), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 150
        while not (out / "rounds.jsonl").exists() or len((out / "rounds.jsonl").read_text().splitlines()) < 3:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        children = psutil.Process(process.pid).children(recursive=True)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.wait(20)
        assert time.monotonic() - began < 5
        assert process.returncode == 130
    finally:
        process.kill()
    assert "Traceback" not in process.stderr.read()
    assert len(children) > 2
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]
    assert len(read_rounds(out)) >= 3


@pytest.mark.parametrize(
    "seconds_after_log",
    [pytest.param(0.0, marks=pytest.mark.network), 1.0, pytest.param(2.5, marks=pytest.mark.network)],
)
def test_a_signal_while_the_engine_starts(seconds_after_log, tmp_path):
    out = tmp_path / "out"
    flags = [*DIGITS, "--rounds", 5000, "--evaluate", "last", "--out", out]
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


@pytest.mark.network
def test_a_client_that_hangs_for_ever_is_dropped_and_the_program_ends_without_it(tmp_path):
    """Flower's engine waits for it after the last round."""
    flags = [*DIGITS, "--actors", 2, "--on-bad-reply", "drop", "--round-timeout", 60]  # an actor has to start in it
    run("2=hang", *flags, "--rounds", 1, "--out", tmp_path / "out", module="tests.faulty", mark=tmp_path)
    record = read_rounds(tmp_path / "out")[1]
    assert [d["client"] for d in record.dropped] == [2] and record.client_ids == [0, 1, 3, 4, 5]
    assert_nothing_left_of(tmp_path)


ENDING = {
    "--model": """
        from torch import nn
        from oleander.datasets.space import ImageSpace
        def ending(classes: int, image: ImageSpace) -> nn.Module:
            '''Made up.'''
            raise SystemExit(0)
        """,
    "--dataset": """
        from pathlib import Path
        from oleander.datasets.data import Images
        def ending(data_dir: Path) -> Images:
            '''Made up.'''
            quit()
        """,
    "--strategy": """
        import numpy as np
        from oleander.learning.updates import Cohort, Memory
        def ending(cohort: Cohort, *, memory: Memory) -> tuple[Cohort, Memory]:
            '''Made up.'''
            if memory:
                raise SystemExit(0)
            return cohort, {"again": np.ones(1)}
        """,
}


@pytest.mark.parametrize("flag", ENDING)
def test_a_plug_in_that_ends_the_program_is_refused_by_name_and_nothing_passes_for_a_finished_run(flag, tmp_path):
    file = tmp_path / "ending.py"
    file.write_text(textwrap.dedent(ENDING[flag]))
    given = {"--dataset": "digits", "--model": "cnn"} | {flag: file}
    said = run(*TINY, *itertools.chain(*given.items()), "--out", tmp_path / "run", code=2).stderr
    assert "ending.py" in said and "SystemExit" in said and not (tmp_path / "run").exists()
