"""An attack from outside the repository on a network: which copy a client runs, which it has to have, and what it never runs."""

import hashlib
import json
from pathlib import Path

import pytest

from clients.app import make_client
from clients.introduction import introduce
from clients.plugins import own_hashes, with_own_copies
from oleander.experiment.federation import client_config
from oleander.experiment.prepare import Sources, prepare
from oleander.network.client import _own_plugins
from oleander.network.roster import Identity, NetworkRoster
from oleander.settings import outside
from oleander.settings.cli import parse
from oleander.settings.config import Experiment
from oleander.system.environment import versions
from oleander.system.errors import UserError
from tests.models.test_own import MODEL
from tests.settings.test_outside import ATTACK
from tests.spaces import attack_of

REMOTE = {"mailbox": "m"}
HERE = REMOTE | {"same-machine": 1}


@pytest.fixture(autouse=True)
def forgotten():
    yield
    outside.forget()


@pytest.fixture
def servers(tmp_path):
    """The server's file, and its settings as a client is told them."""
    (tmp_path / "server").mkdir()
    file = tmp_path / "server" / "my_attack.py"
    file.write_text(ATTACK)
    told = parse(["--attack", f"patch+{file}", "--malicious", "1", "--my-attack-by", "2"]).to_json()
    outside.forget()
    yield file, Experiment.from_json(told)
    outside.forget()


def own(folder: Path, text: str = ATTACK) -> dict:
    folder.mkdir(exist_ok=True)
    (folder / "my_attack.py").write_text(text)
    return REMOTE | {"plugins": json.dumps([str(folder / "my_attack.py")])}


def test_a_client_runs_its_own_copy_by_the_files_name(servers, tmp_path):
    file, experiment = servers
    file.unlink()
    config = own(tmp_path / "client")
    found = with_own_copies(experiment, config)
    assert found.attack == f"patch+{tmp_path / 'client' / 'my_attack.py'}" and found.my_attack_by == 2.0
    assert len(attack_of(found).tampers) == 1
    assert own_hashes(experiment, config) == {"my_attack": hashlib.sha256(ATTACK.encode()).hexdigest()}


def test_on_the_servers_machine_its_own_file_is_run_where_it_is_this_users(servers):
    file, experiment = servers
    assert with_own_copies(experiment, HERE).attack == experiment.attack
    file.chmod(0o666)
    with pytest.raises(UserError, match=r"has no plug-in my_attack.*--plugin my_attack\.py"):
        with_own_copies(experiment, HERE)


def test_a_server_elsewhere_cannot_have_a_file_run_that_the_clients_user_did_not_name(servers, tmp_path):
    file, experiment = servers
    file.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n" + ATTACK)
    assert own_hashes(experiment, REMOTE) == {}
    with pytest.raises(UserError, match="has no plug-in my_attack"):
        with_own_copies(experiment, REMOTE)
    with pytest.raises(UserError, match="has another plug-in my_attack"):
        with_own_copies(experiment, HERE)
    assert not (tmp_path / "ran").exists()


def test_a_simulation_reads_the_file_by_its_path_and_a_missing_one_is_named(servers):
    file, experiment = servers
    assert with_own_copies(experiment, {"partition-id": 0}) is experiment
    file.unlink()
    with pytest.raises(UserError, match=r"there is no file .*my_attack\.py"):
        attack_of(experiment)


@pytest.fixture
def setup(image_folder, tmp_path):
    file = tmp_path / "my_attack.py"
    file.write_text(ATTACK)
    arguments = [
        "--attack",
        f"patch+{file}",
        "--malicious",
        "1",
        "--dataset",
        f"folder:{image_folder}",
        "--weights",
        "fresh",
    ]
    arguments += ["--samples-per-client", "8", "--clients", "3", "--clients-per-round", "2"]
    yield prepare(parse(arguments), Sources(print))
    outside.forget()


def objection(setup, client, config, **said):
    """What the server has against a client that says this of itself."""
    hello = {k: str(v) for k, v in client_config(setup).items()} | {"versions": json.dumps(versions())}
    told = Experiment.from_json(hello["experiment"])
    found = introduce(client, hello, lambda: told, lambda e: setup.dataset, config) | said
    who = Identity(
        client, str(client), versions(), json.loads(found.get("plugins", "{}")), found.get("problem", ""),
        found.get("shard-sha256", ""), found.get("dataset-sha256", ""), found.get("trigger-sha256", ""),
    )  # fmt: skip
    return NetworkRoster(setup, print)._misfit(who)


def test_the_server_sends_an_attacker_without_the_file_away_and_names_both_hashes(setup, tmp_path):
    wanted = hashlib.sha256(ATTACK.encode()).hexdigest()[:12]
    assert objection(setup, 0, own(tmp_path / "same")) == "" == objection(setup, 0, HERE)
    text = ATTACK + "# another\n"
    other = objection(setup, 0, own(tmp_path / "other", text))
    assert "client 0 has another plug-in my_attack" in other and wanted in other
    assert hashlib.sha256(text.encode()).hexdigest()[:12] in other
    none = objection(setup, 0, REMOTE)
    assert "client 0 has no plug-in my_attack" in none and wanted in none and "--plugin" in none
    assert objection(setup, 1, REMOTE) == ""  # nobody asks an honest client for it
    assert "has another plug-in" in objection(setup, 0, HERE, plugins=json.dumps({"my_attack": "ab" * 32}))


def test_every_client_needs_the_models_file(image_folder, tmp_path):
    file = tmp_path / "my_model.py"
    file.write_text(MODEL)
    words = ["--model", str(file), "--dataset", f"folder:{image_folder}", "--weights", "fresh"]
    words += ["--samples-per-client", "8", "--clients", "3", "--clients-per-round", "2"]
    setup = prepare(parse(words), Sources(print))
    (tmp_path / "client").mkdir()
    copy = tmp_path / "client" / "my_model.py"
    copy.write_text(MODEL)
    remote = REMOTE | {"plugins": json.dumps([str(copy)])}
    told = {k: str(v) for k, v in client_config(setup).items()} | {"server-round": "1"}
    outside.forget()  # the client's process knows nothing of it
    for client in range(3):
        assert objection(setup, client, remote) == "" == objection(setup, client, HERE)
        none = objection(setup, client, REMOTE)
        assert f"client {client} has no plug-in my_model" in none and "--plugin my_model.py" in none
    for config in (remote, HERE):
        assert len(list(make_client(1, told, config).model.parameters())) == 6
    file.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n" + MODEL)
    with pytest.raises(UserError, match="has no plug-in my_model"):
        make_client(1, told, REMOTE)
    with pytest.raises(UserError, match="has another plug-in my_model"):
        make_client(1, told, HERE)
    assert "client 1 has another plug-in my_model" in objection(setup, 1, HERE) and not (tmp_path / "ran").exists()
    copy.write_text(MODEL.replace("import torch.nn as nn", "import torch.nn as nn, missing_here"))
    told = hashlib.sha256(copy.read_bytes()).hexdigest()
    assert told[:12] in objection(setup, 2, remote)


def test_what_plugin_names_is_looked_at_before_anything_starts(tmp_path):
    own(tmp_path / "a"), own(tmp_path / "b")
    (tmp_path / "x.txt").touch()
    for files, words in (
        ([tmp_path / "no.py"], "there is no such file"),
        ([tmp_path / "x.txt"], "not a .py file"),
        ([tmp_path / "a" / "my_attack.py", tmp_path / "b" / "my_attack.py"], "there twice"),
    ):
        with pytest.raises(UserError, match=words):
            _own_plugins(tuple(files))
