"""``flwr run . -c "…"``: settings as keys of the run config, on a SuperLink of Flower's own, in its simulation."""

import json
import os
import secrets
import subprocess
import time

import pytest

from oleander.experiment.records import read_rounds, settings_of
from oleander.network.address import free_port
from oleander.system.programs import flower, flower_programs, module_path
from tests.programs import ROOT, assert_nothing_left_of, kill_tree

pytestmark = [pytest.mark.network, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("flwr")


@pytest.fixture(scope="module")
def flwr(home):
    """A function that runs ``flwr`` against a SuperLink whose runs are simulations of three clients."""
    port = free_port()
    env = os.environ | {
        "FLWR_HOME": str(home), "PATH": flower_programs(home / "bin"), "PYTHONPATH": module_path(),
        "FLWR_DISABLE_UPDATE_CHECK": "1", "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1", "OLEANDER_TEST": str(home),
        "RAY_ADDRESS": "local", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }  # fmt: skip
    config = f'[superlink]\ndefault = "here"\n[superlink.here]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
    (home / "config.toml").write_text(config)
    words = ["--insecure", "--simulation", "--host", "127.0.0.1", "--port", str(port)]
    with (home / "superlink.txt").open("w") as log:
        superlink = subprocess.Popen([*flower("flower-superlink"), *words], env=env, stdout=log, stderr=log)

    def run(*words, tries=1):
        for left in reversed(range(tries)):
            done = subprocess.run(
                [*flower("flwr"), *words], env=env, capture_output=True, text=True, cwd=ROOT, check=False
            )
            if done.returncode == 0 or not left:
                return done
            time.sleep(1.0)
        raise AssertionError

    try:
        simulated = run("federation", "simulation-config", "@none/default", "here", "--num-supernodes", "3", tries=60)
        assert simulated.returncode == 0, simulated.stdout + simulated.stderr
        yield run
    finally:
        kill_tree(superlink)
        assert_nothing_left_of(home)


def status(flwr):
    """Of the run that was begun last."""
    runs = json.loads(flwr("ls", "here", "--format", "json").stdout)["runs"]
    return max(runs, key=lambda run: run["pending-at"])["status"]


def test_keys_and_flags_are_the_runs_settings(flwr, tmp_path):
    out = tmp_path / "run"
    keys = f"scenario='dba' rounds=2 clients=3 clients_per_round=3 malicious=2 samples_per_client=8 batch_size=4 out='{out}' "
    keys += "dataset='digits' flags='--strategy clip --clip-norm 2.5'"
    done = flwr("run", str(ROOT), "here", "--stream", "-c", keys)
    assert status(flwr) == "finished:completed", done.stdout + done.stderr
    found = settings_of(out)
    assert (found.strategy, found.clip_norm, found.rounds, found.samples_per_client) == ("clip", 2.5, 2, 8)
    assert [r.client_ids for r in read_rounds(out)] == [[], [0, 1, 2], [0, 1, 2]]


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ("rounds='three'", "error: run config: rounds = 'three' must be a whole number"),
        ("strategy='krumm'", "error: --strategy krumm: 'krumm' is unknown"),
        ("flags='--malicios 3'", "error: run config: flags = '--malicios 3'"),
    ],
)
def test_what_cannot_be_is_a_line_of_the_log_and_the_run_has_failed(flwr, keys, line):
    done = flwr("run", str(ROOT), "here", "--stream", "-c", f"scenario='dba' {keys}")
    assert line in done.stdout and "Traceback" not in done.stdout, done.stdout + done.stderr
    assert status(flwr) == "finished:failed"


def test_flower_itself_refuses_a_key_that_is_no_setting(flwr, home):
    done = flwr("run", str(ROOT), "here", "-c", "scenario='dba' round=3")
    assert done.returncode, done.stdout + done.stderr
    assert "'round'" in (home / "superlink.txt").read_text()  # its words go into the SuperLink's log
