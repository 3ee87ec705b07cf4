"""Each thing that a node says of itself is looked at by itself: one lie among truths is enough to be sent away."""

import json
from dataclasses import replace

import pytest

from oleander.system.environment import versions
from oleander.system.errors import RunError
from tests.network.test_roster import Nodes, full, quick, roster_of, small  # noqa: F401  # quick is a fixture of every test

pytestmark = pytest.mark.usefixtures("task")


@pytest.fixture(scope="module")
def setup(image_folder):
    return small(image_folder, malicious=2, round_timeout=0.1)


def why(setup, client, **said):
    """What a node hears that says all the right things of this client but these."""
    nodes = full(setup)
    nodes.join(100 + client, client, **said)
    roster, told = roster_of(setup)
    with pytest.raises(RunError, match=rf"clients \[{client}\] did not join"):
        roster.nodes(nodes)
    assert set(nodes.farewells) == {100 + client} and roster.client_of(100 + client) is None
    assert any(line.startswith("refused: ") for line in told)
    assert nodes.farewells[100 + client]["code"] == 2
    return nodes.farewells[100 + client]["why"]


@pytest.mark.parametrize("client", [0, 2])
@pytest.mark.parametrize("name", ["dataset-sha256", "shard-sha256"])
@pytest.mark.parametrize("said", ["00" * 32, ""])
def test_the_datasets_fingerprint_and_the_shards_count_each_by_itself(setup, client, name, said):
    """A client may have its own shard and other images beside it: what it is tested on is then not what it says."""
    words = why(setup, client, **{name: said})
    assert words.startswith(f"client {client} has other data than the server: ") and setup.dataset.name in words


@pytest.mark.parametrize("number", [True, False, 1.0, "1", [1], b"1"])
def test_a_number_that_is_no_whole_number_is_no_client(setup, number):
    """True is 1 to Python: it must not take client 1's place."""
    nodes = full(setup)
    del nodes.online[101]
    nodes.join(201, 1, **{"partition-id": number})
    roster, _ = roster_of(setup)
    with pytest.raises(RunError, match=r"clients \[1\] did not join"):
        roster.nodes(nodes)
    assert 201 in nodes.farewells and roster.client_of(201) is None
    nodes.join(101, 1)
    assert roster.nodes(nodes) == {0: 100, 1: 101, 2: 102}


@pytest.mark.parametrize("client", [0, 1])
def test_every_attackers_trigger_is_looked_at(setup, client):
    assert why(setup, client, **{"trigger-sha256": "00" * 32}).startswith(f"client {client} stamps another trigger")


def test_a_benign_clients_trigger_is_not(setup):
    nodes = full(setup)
    nodes.join(102, 2, **{"trigger-sha256": "00" * 32})
    assert roster_of(setup)[0].nodes(nodes) == {0: 100, 1: 101, 2: 102}


def with_version(package, version):
    return json.dumps(versions() | {package: version})


def bumped(version: str, part: int) -> str:
    parts = version.split(".")
    parts[part] = str(int(parts[part]) + 1)
    return ".".join(parts)


@pytest.mark.parametrize(
    ("package", "part"), [("oleander", 0), ("oleander", 1), ("oleander", 2), ("flwr", 0), ("flwr", 1)]
)
def test_versions_that_do_not_fit_are_refused_in_each_part_that_counts(setup, package, part):
    other = bumped(versions()[package], part)
    assert f"client 1 has {package} {other}, the server {versions()[package]}" == why(
        setup, 1, versions=with_version(package, other)
    )


def test_a_patch_release_of_flower_is_let_in_and_other_last_bits_are_said(setup):
    nodes = full(setup)
    nodes.join(101, 1, versions=with_version("flwr", bumped(versions()["flwr"], 2)))
    nodes.join(102, 2, versions=with_version("numpy", "1.2.3"))
    roster, said = roster_of(setup)
    assert set(roster.nodes(nodes)) == {0, 1, 2}
    assert "client 1 is here" in said
    assert f"client 2 is here (with numpy 1.2.3, not {versions()['numpy']}: the last bits may differ)" in said


def test_who_comes_for_a_taken_place_may_try_again_and_others_may_not(setup):
    nodes = full(setup)
    nodes.join(200, 1)
    nodes.join(300, 9)
    roster, _ = roster_of(setup)
    roster.nodes(nodes)
    roster._look(nodes)
    assert nodes.farewells[200]["why"] == "client 1 is here already" and nodes.farewells[200]["again"] > 0
    assert nodes.farewells[300]["again"] == 0
    assert roster.client_of(200) is None and roster.client_of(101) == 1


def test_who_is_missing_and_who_is_here_is_said_by_number(setup):
    patient = replace(setup, experiment=replace(setup.experiment, round_timeout=1.0))  # the first look takes its time
    nodes = Nodes(patient)
    roster, said = roster_of(patient, how_to_start="start {client}")
    with pytest.raises(RunError):
        roster.nodes(nodes)
    assert said == ["waiting for clients; nobody is here yet; missing: 0, 1, 2. To start one: start 0"]
    said.clear()
    nodes.join(101, 1)
    with pytest.raises(
        RunError, match=r"the clients \[0, 2\] did not join within 1 s \(--round-timeout, --min-clients\)"
    ):
        roster.nodes(nodes)
    assert said[-1] == "waiting for clients; here: 1; missing: 0, 2. To start one: start 0"
