"""Any strategy on plain arrays: it does what the pipeline does, asks for what it needs, and says what it cannot take."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from oleander.datasets.space import ImageSpace
from oleander.learning.parameters import Layout, ModelState
from oleander.learning.root import Root
from oleander.settings import outside
from oleander.settings.config import Experiment
from oleander.system.errors import UserError
from strategies import (
    TRIAL,
    RuleError,
    Server,
    aggregate,
    kind_of,
    known_strategies,
    pipeline_for,
    trial_server,
)
from tests.cohorts import random_cohort
from tests.programs import ROOT
from tests.strategies.conftest import HEADER

KNOWN = known_strategies()
N, D = 9, TRIAL.weight_count
COHORT = random_cohort(N, d=D, s=0)
UPDATES, EXAMPLES = COHORT.deltas, COHORT.num_examples
START = np.linspace(-1, 1, D, dtype=np.float32)
GIVEN = {"layout": TRIAL, "root": UPDATES.mean(axis=0), "answers": lambda _, pixels: torch.zeros(len(pixels), 2),
         "image": ImageSpace(1, 2, (0.0,), (1.0,))}  # fmt: skip
"""What a server may have besides replies."""


def needs(name: str) -> dict:
    """What of it this step asks for."""
    return {ask: GIVEN[ask] for ask in KNOWN[name].asks if ask in GIVEN}


# ---- the same as the pipeline ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("seed", [0, 7])
def test_it_does_what_the_pipeline_does(name, seed):
    """Two rounds, bit for bit; there are no statistics on plain arrays."""
    root = replace(trial_server(GIVEN["root"]).root)
    server = Server(seed, TRIAL, root, GIVEN["answers"], GIVEN["image"])
    pipeline, memory, found = pipeline_for([name], Experiment(), name), {}, None
    for number in (1, 2):
        cohort = replace(random_cohort(N, D, 0, number), round=number, start=ModelState(START, np.zeros(0, np.float32)))
        passed = pipeline.run(cohort, memory, server)
        memory = passed.memory
        found = aggregate(
            name, cohort.deltas, num_examples=cohort.num_examples, start=START, seed=seed, round=number,
            memory=found and found.memory, **needs(name),
        )  # fmt: skip
        assert found.delta.dtype == np.float32 and found.influence.shape == (N,)
        np.testing.assert_array_equal(found.delta, passed.aggregate.delta)
        np.testing.assert_array_equal(found.influence, passed.aggregate.influence)
        assert found.memory.keys() == memory.keys()


def test_settings_reach_the_steps():
    one, two = (aggregate("clip+krum", UPDATES, clip_norm=bound, assumed_malicious=2) for bound in (0.1, 1e6))
    assert np.linalg.norm(one.delta) == pytest.approx(0.1, rel=1e-5)
    assert np.linalg.norm(two.delta) == pytest.approx(np.linalg.norm(UPDATES[two.influence.argmax()]), rel=1e-6)


def test_without_counts_each_client_counts_alike_and_with_them_as_many_times():
    np.testing.assert_allclose(aggregate("fedavg", UPDATES).delta, UPDATES.mean(axis=0), rtol=1e-5, atol=1e-7)
    weighed = np.average(UPDATES.astype(float), axis=0, weights=EXAMPLES)
    np.testing.assert_allclose(aggregate("fedavg", UPDATES, num_examples=EXAMPLES).delta, weighed, rtol=1e-5, atol=1e-7)


# ---- what is handed in -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KNOWN)
def test_arrays_that_are_handed_in_are_left_alone(name):
    """Read-only ones will do, and nothing that comes out is a view of them."""
    arrays = {
        "updates": UPDATES.copy(),
        "num_examples": EXAMPLES.copy(),
        "start": START.copy(),
        "client_ids": np.arange(N),
    }
    for array in arrays.values():
        array.setflags(write=False)
    found = aggregate(name, **arrays, **needs(name))
    assert not any(np.shares_memory(found.delta, array) for array in arrays.values())


@pytest.mark.parametrize("name", KNOWN)
@given(order=st.permutations(range(N)))
@hypothesis_settings(max_examples=10, deadline=None)
def test_the_order_of_clients_is_free(name, order):
    """Also where clients are drawn: by their ids, not by where they stand."""
    ids = np.arange(10, 10 + N)
    one = aggregate(name, UPDATES, num_examples=EXAMPLES, client_ids=ids, **needs(name))
    two = aggregate(name, UPDATES[order], num_examples=EXAMPLES[order], client_ids=ids[order], **needs(name))
    np.testing.assert_array_equal(one.delta, two.delta)
    np.testing.assert_array_equal(one.influence[order], two.influence)


@pytest.mark.parametrize(
    "alike",
    [
        UPDATES.tolist(), UPDATES.astype(np.float64), np.asfortranarray(UPDATES), torch.tensor(UPDATES),
        torch.tensor(UPDATES, requires_grad=True), torch.tensor(UPDATES, dtype=torch.float64), list(UPDATES),
        [torch.tensor(row) for row in UPDATES],
    ],
    ids=["lists", "float64", "columns first", "tensor", "learning tensor", "float64 tensor", "list of arrays", "list of tensors"],
)  # fmt: skip
def test_lists_tensors_and_other_precisions_are_the_same_updates(alike):
    ids, counts = torch.arange(N), torch.tensor(EXAMPLES)
    found = aggregate("clip+krum", alike, num_examples=counts, client_ids=ids, start=torch.tensor(START))
    np.testing.assert_array_equal(found.delta, aggregate("clip+krum", UPDATES).delta)


def test_float64_is_rounded_to_float32_as_it_is_when_it_is_sent():
    fine = np.array([[1 + 2**-30], [1], [1 - 2**-30]])
    assert aggregate("median", fine).delta.tolist() == [1.0] and aggregate("median", fine).influence.tolist() == [
        1,
        0,
        0,
    ]
    halves = torch.tensor([[0.5], [1.5], [2.5]], dtype=torch.bfloat16)
    assert aggregate("median", halves).delta.tolist() == [1.5]


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ({"updates": [1.0, 2.0]}, r"updates: float64 of shape \(2,\); wanted: numbers of shape \(n, d\)"),
        ({"updates": [[1.0], [1.0, 2.0]]}, "updates: no array of numbers"),
        ({"updates": [["a"]]}, "updates: <U1"),
        ({"updates": None}, r"updates: object of shape \(\)"),
        ({"updates": UPDATES * 1j}, "updates: complex"),
        ({"updates": UPDATES[:0]}, "updates of no client"),
        ({"updates": UPDATES[:, :0]}, "updates of no weights"),
        ({"updates": UPDATES * np.float32("nan")}, "updates: has values that are not finite"),
        ({"updates": UPDATES.astype(float) * 1e300}, "updates: has values that are not finite in float32"),
        ({"num_examples": [1] * (N - 1)}, "num_examples: wanted 9 whole numbers from 1"),
        ({"num_examples": [0] + [1] * (N - 1)}, "num_examples: wanted 9 whole numbers from 1"),
        ({"num_examples": [1.5] * N}, "num_examples: wanted 9 whole numbers"),
        ({"num_examples": [2**62] * N}, "num_examples: wanted 9 whole numbers from 1 to"),
        ({"num_examples": np.full(N, 2**63, np.uint64)}, "num_examples: wanted 9 whole numbers from 1 to"),
        ({"client_ids": [-1, *range(N - 1)]}, "client_ids: wanted 9 whole numbers from 0"),
        ({"client_ids": [1, *range(N - 1)]}, r"client_ids: \[1, 0, 1, .*; wanted: 9 different"),
        ({"start": START[1:]}, r"start: float32 of shape \(7,\); wanted: numbers of shape \(8\)"),
        ({"root": START[1:]}, r"root: float32 of shape \(7,\)"),
        ({"layout": Layout(("w",), ((3,),), (True,))}, "layout has 3 weights, updates have 8"),
        ({"layout": 3}, "layout: a int; wanted: a Layout"),
        ({"seed": -1}, "seed = -1"),
        ({"seed": 0.5}, "seed = 0.5"),
        ({"round": 0}, "round = 0"),
        ({"round": "1"}, "round = '1'"),
        ({"memory": {"foolsgold": {}}}, "memory of foolsgold; of this strategy no step remembers"),
        ({"memory": [1]}, "memory of list"),
        ({"assumed_malicious": 4}, "n = 9 and f = 4"),
    ],
)
def test_what_cannot_be_taken_is_said(given_, words):
    with pytest.raises(RuleError, match=words):
        aggregate("krum", **({"updates": UPDATES} | given_))


@pytest.mark.parametrize(
    ("strategy", "settings", "words"),
    [
        ("krumm", {}, "'krumm' is unknown; known: .*krum"),
        ("", {}, "'' is unknown"),
        (None, {}, "strategy = None"),
        ("krum+clip", {}, r"krum \(rule\), clip \(filter\): a strategy is filters, then one rule, then finishes"),
        ("krum", {"asumed": 1}, "asumed: no such setting; krum uses assumed_malicious"),
        ("krum", {"clip_norm": 1.0}, "clip_norm = 1.0: krum does not use it, but assumed_malicious"),
        ("krum", {"malicious": 1}, "malicious = 1: krum does not use it"),
        ("fedavg", {"assumed_malicious": 1}, "fedavg does not use it, but none"),
        ("krum", {"assumed_malicious": "two"}, "assumed_malicious = 'two'"),
        ("krum", {"assumed_malicious": -1}, "assumed_malicious = -1"),
        ("clip", {"clip_norm": 0.0}, "clip_norm = 0.0"),
    ],
)
def test_unknown_steps_and_settings_unused_ones_and_values_out_of_range_are_said(strategy, settings, words):
    with pytest.raises(UserError, match=words):
        aggregate(strategy, UPDATES, **settings)


def test_numpys_numbers_are_settings_too():
    found = aggregate("clip+krum", UPDATES, assumed_malicious=np.int64(2), clip_norm=np.float32(0.5))
    np.testing.assert_array_equal(
        found.delta, aggregate("clip+krum", UPDATES, assumed_malicious=2, clip_norm=0.5).delta
    )


# ---- what steps want to know -----------------------------------------------------------------------------------------

ASKS = "(cohort: Cohort, *, {0}: object) -> Aggregate: return fedavg(cohort)"


@pytest.mark.parametrize("name", [name for name in KNOWN if set(KNOWN[name].asks) & set(GIVEN)])
def test_what_a_strategy_needs_and_was_not_given_is_said(name):
    for ask in needs(name):
        with pytest.raises(RuleError, match=f"{name} needs {ask}, and was given none"):
            aggregate(name, UPDATES, **{other: value for other, value in needs(name).items() if other != ask})


@pytest.mark.parametrize("ask", GIVEN)
def test_what_a_step_needs_and_was_not_given_is_said(made, ask):
    made(ASKS.format(ask))
    with pytest.raises(RuleError, match=f"a_plugin needs {ask}, and was given none"):
        aggregate("clip+a_plugin", UPDATES)
    assert aggregate("clip+a_plugin", UPDATES, **{ask: GIVEN[ask]}).influence.sum() == pytest.approx(1)


def test_a_root_is_an_update_or_images_with_their_training(made):
    made("(cohort: Cohort, *, root: object) -> Aggregate: a = fedavg(cohort); "
         "return replace(a, delta=root.update(cohort.start, cohort.round).delta)")  # fmt: skip
    np.testing.assert_array_equal(aggregate("a_plugin", UPDATES, root=START.tolist()).delta, START)
    trained: Root = trial_server(START).root
    np.testing.assert_array_equal(aggregate("a_plugin", UPDATES, root=trained).delta, START)


def test_what_is_remembered_goes_round_by_round_and_the_callers_stays_as_it_is(made):
    made("(cohort: Cohort, *, memory: Memory) -> tuple[Aggregate, Memory]: "
         "return fedavg(cohort), {'count': np.asarray(memory.get('count', 0) + 1)}")  # fmt: skip
    first = aggregate("a_plugin", UPDATES)
    second = aggregate("a_plugin", UPDATES, memory=first.memory, round=2)
    again = aggregate("a_plugin", UPDATES, memory=first.memory, round=2)
    counts = [int(found.memory["a_plugin"]["count"]) for found in (first, second, again)]
    assert counts == [1, 2, 2]
    with pytest.raises(RuleError, match="memory of krum; of this strategy a_plugin remembers"):
        aggregate("a_plugin", UPDATES, memory={"krum": {}})


def test_a_file_of_ones_own_is_a_step_with_its_settings(tmp_path):
    file = tmp_path / "halved.py"
    file.write_text(
        HEADER + "def halved(aggregate: Aggregate, cohort: Cohort, *, halved_times: Count = 1) -> Aggregate:\n"
        '    """Half."""\n    return replace(aggregate, delta=aggregate.delta / np.float32(2**halved_times))\n'
    )
    try:
        found = aggregate(f"krum+{file}", UPDATES, halved_times=3)
    finally:
        outside.forget()
    np.testing.assert_array_equal(found.delta, aggregate("krum", UPDATES).delta / 8)


def test_seed_and_round_say_what_is_drawn():
    one, same, later, other = (
        aggregate("noise", UPDATES, seed=seed, round=number).delta for seed, number in ((0, 1), (0, 1), (0, 2), (1, 1))
    )
    np.testing.assert_array_equal(one, same)
    assert (one != later).all() and (one != other).all()


# ---- without Flower and Ray ------------------------------------------------------------------------------------------


def test_neither_flower_nor_ray_is_imported():
    code = (
        "import sys, numpy as np, strategies\n"
        "for name in strategies.known_strategies():\n"
        "    try: strategies.aggregate(name, np.ones((9, 8)))\n"
        "    except strategies.RuleError as error: assert 'was given none' in str(error), error\n"
        "print(sorted({m.partition('.')[0] for m in sys.modules} & {'flwr', 'ray', 'grpc', 'matplotlib'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False, timeout=100
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_the_example_of_the_docs_runs(capsys):
    page = (ROOT / "docs" / "howto" / "python.md").read_text(encoding="utf-8")
    example = page.partition("## Strategies on plain arrays")[2].partition("```python\n")[2].partition("```")[0]
    names: dict = {}
    exec(example, names)
    assert capsys.readouterr().out == f"(1000,) {names['found'].influence.argmax()}\n"
    assert names["found"].influence[0] == 0 and names["later"].memory["centred_clip"]


def test_every_kind_is_among_those_tried():
    assert {kind_of(plugin) for plugin in KNOWN.values()} == {"filter", "rule", "finish"}
