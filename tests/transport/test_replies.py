"""Replies that are none, and what is said of those whose reply was none; Flower's grid is played, Ray does not run."""

import numpy as np
import pytest

import tests.played_network as played
from oleander.system.errors import RunError
from tests.played_network import Network, changed, failing, run

pytestmark = pytest.mark.usefixtures("task")


def test_a_reply_that_does_not_say_how_many_examples_it_has_is_none():
    def silent(message, content):
        return played.honest(message, {name: value for name, value in content.items() if name != "num-examples"})

    with pytest.raises(RunError, match="client 0: it claims None examples"):
        run(Network(6, {0: silent}), clients_per_round=6, rounds=1)


@pytest.mark.parametrize("missing", ["arrays", "metrics"])
def test_a_reply_without_arrays_or_without_metrics_is_none(missing):
    def fault(message, content):
        reply = played.honest(message, content)
        del reply.content[missing]
        return reply

    with pytest.raises(RunError, match="client 0: its reply has no arrays or no metrics"):
        run(Network(6, {0: fault}), clients_per_round=6, rounds=1)


def test_statistics_that_are_wrong_are_called_statistics():
    for statistics, words in (
        (np.zeros(3, np.float32), r"its statistics have shape \(3,\), not \(4,\)"),
        (np.zeros(4), r"its statistics are float64"),
        (
            np.array([0, np.nan, 0, 0], np.float32),
            r"its statistics have 1 values that are not finite .* from bn.running_mean on",
        ),
        (np.array([0, 0, np.inf, np.nan], np.float32), r"its statistics have 2 values .* from bn.running_var on"),
    ):
        fault = changed(arrays=lambda content, statistics=statistics: [content["arrays"][0], statistics])
        with pytest.raises(RunError, match=f"client 0: {words}"):
            run(Network(6, {0: fault}), clients_per_round=6, rounds=1)


OF_A_NODE = "<class 'ray.exceptions.RayTaskError'>:<'Exception ClientAppException occurred. Message: {}'>"


CAUSES = {
    "gone": ("<Node Unavailable>", "it is gone: no sign of life"),
    "killed": (
        "<class 'x'>:<'ActorDiedError: …'>",
        "its process died in the middle of its work (killed, or out of memory)",
    ),
    "killed, as Ray says": ("RayActorError", "its process died in the middle of its work (killed, or out of memory)"),
    "its worker": ("WorkerCrashedError", "its process died in the middle of its work (killed, or out of memory)"),
    "silent": ("", "it failed without a word"),
    "blank": (" \n \n", "it failed without a word"),
    "in Ray": (OF_A_NODE.format("out of cheese"), "it raised: out of cheese"),
    "in Ray, two lines": (OF_A_NODE.format("out of\n\n  cheese "), "it raised: out of … cheese"),
    "in Ray, three lines": (OF_A_NODE.format("first\nmiddle\nlast"), "it raised: first … last"),
    "as nodes give it": ("<class 'ValueError'>:<'no\nway'>", "it raised: no … way"),
    "in its own words": ("plain words", "it raised: plain words"),
    "in colours": ("\x1b[36mplain\x1b[0m words", "it raised: plain words"),
    "at length": ("x" * 1000, f"it raised: {'x' * 389}"),
}


@pytest.mark.parametrize("case", CAUSES)
def test_why_a_client_was_left_out_is_said_in_one_sentence(case):
    reason, words = CAUSES[case]
    _, (outcome,) = run(
        Network(6, {2: failing(reason)}), clients_per_round=6, rounds=1, on_bad_reply="drop", round_timeout=20
    )
    said = outcome.dropped[2]
    assert said == words if case != "at length" else said.startswith(words) and len(said) <= 412


def test_a_run_that_ends_by_a_client_says_how_it_would_not():
    with pytest.raises(RunError) as error:
        run(Network(6, {2: failing("plain words")}), clients_per_round=6, rounds=1)
    assert str(error.value) == (
        "round 1, client 2: it raised: plain words (--on-bad-reply drop leaves such clients out and goes on)"
    )


@pytest.mark.parametrize(("length", "cut"), [(389, False), (390, True)])
def test_a_clients_words_are_cut_off_where_they_are_longer_than_anybody_is_shown(length, cut):
    _, (outcome,) = run(
        Network(6, {2: failing("x" * length)}), clients_per_round=6, rounds=1, on_bad_reply="drop", round_timeout=20
    )
    assert outcome.dropped[2] == "it raised: " + "x" * 389 + "…" * cut
