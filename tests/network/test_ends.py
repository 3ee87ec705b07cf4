"""Every way in which a round can fail, while other replies are outstanding: the run ends with its exit code, and waits for nobody.

Ten seconds is what a user may expect; how long each took is printed, and that it did not wait is what is asserted.

Marked ``network``. Each cell is a server of its own; its clients are played (``tests/network/played.py``).
"""

import contextlib
import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from clients.introduction import introduce
from oleander.experiment.prepare import Sources, prepare
from oleander.experiment.records import read_rounds
from oleander.network.roster import TAKEN_SECONDS
from oleander.settings.cli import parse
from oleander.system.environment import versions
from tests.network.places import Place
from tests.programs import assert_nothing_left_of

pytestmark = [pytest.mark.network, pytest.mark.timeout(900)]
FLAGS = [
    "--dataset=digits", "--clients=3", "--clients-per-round=3", "--samples-per-client=8", "--batch-size=4",
    "--local-epochs=1", "--rounds=1",
]  # fmt: skip
TIMEOUT = 15.0
KINDS = ("error", "bad", "dead", "hanging")
CELLS = [(policy, how, kind) for policy in ("fail", "drop") for how in ("plain", "keys") for kind in KINDS]
OTHERS = [("fail", "plain", "SIGINT"), ("fail", "keys", "SIGTERM"), ("drop", "plain", "too few for the rule")]
AT_ONCE = 6
LIMIT = 1000.0
"""The round's timeout, seconds, where nobody is to be waited for so long."""
WAITED = 60.0
"""An end that comes sooner has waited for no reply: a hanging client's would not come before LIMIT. Where it is the timeout itself
that ends the round, and where a client is to be missed, the seconds count from then."""


@dataclass
class End:
    """How a server ended."""

    code: int
    after: float
    """Seconds since its failure could be known."""
    honest: int | None
    said: str
    dropped: dict


@pytest.fixture(scope="module")
def ends(keys, tmp_path_factory):
    """All cells, some at a time."""
    root = tmp_path_factory.mktemp("ends")
    setup = prepare(parse(FLAGS), Sources(print))
    hello = {"versions": json.dumps(versions())}
    identity = {
        str(client): {"partition-id": client}
        | introduce(client, hello, lambda: setup.experiment, lambda _: setup.dataset)
        for client in range(3)
    }
    answers = root / "answers.json"
    answers.write_text(json.dumps({"identity": identity, "metrics": {"num-examples": 8, "images": 8.0}}))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        cells = [*CELLS, *OTHERS]
        found = pool.map(lambda cell: tried(root / "-".join(cell).replace(" ", "-"), cell, keys, answers), cells)
        return dict(zip(cells, found, strict=True))


def tried(folder, cell, keys, answers) -> End | AssertionError:
    """How a cell ended; what failed in one is no other's failure."""
    try:
        return ended(folder, cell, keys, answers)
    except AssertionError as error:
        return error


def end_of(ends, cell) -> End:
    end = ends[cell]
    if isinstance(end, AssertionError):
        raise end
    print(f"{' × '.join(cell)}: exit {end.code} after {end.after:.1f} s")
    return end


def ended(folder, cell, keys, answers) -> End:
    policy, how, kind = cell
    flags = [*FLAGS, "--on-bad-reply", policy]
    flags += ["--round-timeout", TIMEOUT if kind == "hanging" else LIMIT]
    if kind == "too few for the rule":
        flags += ["--strategy", "krum", "--assumed-malicious", 0]
    with Place(folder) as place:
        place.server(*flags, "--out", place.out, *(["--keys", keys] if how == "keys" else []))
        other = "hanging" if policy == "fail" else "slow"
        faulty = {"SIGINT": "hanging", "SIGTERM": "hanging", "too few for the rule": "error"}.get(kind, kind)
        for client, role in enumerate((other, faulty, "honest")):
            place.start(f"client{client}", "tests.network.played", role, f"{place.host}:{place.port}", client,
                        keys if how == "keys" else "-", answers)  # fmt: skip
        known = when_known(place, kind)
        code = place.ended("server", 200)
        after = time.time() - known
        honest = None
        with contextlib.suppress(AssertionError):
            honest = place.ended("client2", 60)
        rounds = read_rounds(place.out) if (place.out / "rounds.jsonl").exists() else []
        dropped = {d["client"]: d["cause"] for d in rounds[1].dropped} if len(rounds) > 1 else {}
        result = End(code, after, honest, place.all(), dropped)
    assert_nothing_left_of(folder)
    return result


def when_known(place: Place, kind: str) -> float:
    """Wait for the fault; returns when the server can know of it, in seconds since the epoch."""
    if kind in ("error", "bad", "too few for the rule"):
        place.wait_for("client1", "train")
        place.wait_for("client1", "answered")
        return stamp(place, "answered")
    for client in ("client0", "client1"):
        place.wait_for(client, "asked to train")
    if kind.startswith("SIG"):
        place.started["server"].send_signal(signal.Signals[kind])
        return time.time()
    return stamp(place, "asked to train") + (TAKEN_SECONDS if kind == "dead" else TIMEOUT)


def stamp(place: Place, words: str) -> float:
    return float(next(line for line in place.said("client1").splitlines() if words in line).split()[0])


@pytest.mark.parametrize("cell", CELLS, ids="-".join)
def test_every_end_comes_with_its_code_and_waits_for_nothing_that_is_outstanding(ends, cell):
    policy, _, kind = cell
    end = end_of(ends, cell)
    assert end.code == (1 if policy == "fail" else 0), end.said
    assert end.honest == end.code and "Traceback" not in end.said, end.said
    if policy == "drop":  # the round goes on, the slow client's reply is taken, and the run is reported
        words = {"error": "out of cheese", "bad": "not finite", "dead": "it is gone", "hanging": "no reply within"}
        assert set(end.dropped) == {1} and words[kind] in end.dropped[1]
    else:
        assert end.after < WAITED and "round 1, client" in end.said


@pytest.mark.parametrize("cell", OTHERS, ids="-".join)
def test_so_does_the_end_by_a_signal_or_by_the_rule(ends, cell):
    end = end_of(ends, cell)
    assert end.code == {"SIGINT": 130, "SIGTERM": 143}.get(cell[2], 1), end.said
    assert end.after < WAITED and "Traceback" not in end.said
    assert cell[2].startswith("SIG") or ("client 1 was left out" in end.said and end.honest == 1)
