"""``RobustStrategy`` in a foreign Flower app: Flower's grid is played, but for the test that runs the documentation's example."""

import json
import logging
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict

import strategies
from oleander.system.errors import RunError, UserError
from strategies import RuleError
from strategies.flower import RobustStrategy
from tests.programs import ROOT, short_folder
from tests.strategies.foreign_app import Net, initial, train

pytestmark = pytest.mark.usefixtures("task", "one_thread")
NODES = [2**64 - 1 - 7 * i for i in range(6)]
"""As large as Flower's are."""


class Grid:
    def __init__(self, nodes=NODES):
        self.nodes = nodes

    def get_node_ids(self):
        return self.nodes


def replies_of(messages, content):
    """What each node answers; ``content`` is told the node's number."""
    found = []
    for message in messages:
        node = message.metadata.dst_node_id
        said = content(NODES.index(node))
        answer = Message(said, reply_to=message)
        answer.metadata.__dict__["_src_node_id"] = node
        found.append(answer)
    return found


def trained(net, node):
    copy = Net()
    copy.load_state_dict(net.state_dict())
    loss = train(copy, node, 0.1)
    return copy, loss


def content_of(net, node):
    copy, loss = trained(net, node)
    metrics = MetricRecord({"train_loss": loss, "num-examples": 24 + node})
    return RecordDict({"arrays": ArrayRecord(copy.state_dict()), "metrics": metrics})


def flat(state):
    return np.concatenate([v.numpy().ravel() for n, v in state.items() if not re.search("running|tracked", n)])


def one_round(strategy, net, content=None, number=1, nodes=NODES):
    arrays = ArrayRecord(net.state_dict())
    messages = list(strategy.configure_train(number, arrays, ConfigRecord({"lr": 0.1}), Grid(nodes)))
    said = replies_of(messages, content or (lambda node: content_of(net, node)))
    return strategy.aggregate_train(number, said)


def model(arrays):
    net = Net()
    net.load_state_dict(arrays.to_torch_state_dict())
    return net


@pytest.mark.parametrize(
    ("joined", "settings"),
    [("fedavg", {}), ("clip+krum", {"assumed_malicious": 1}), ("median", {}), ("clip", {"clip_norm": 0.5}), ("centred_clip", {}),
     ("clip+fedavg+noise", {}), ("flame", {})],
)  # fmt: skip
def test_it_comes_to_what_aggregate_does_with_the_same_updates_round_after_round(joined, settings):
    strategy, net, memory = RobustStrategy(joined, min_train_nodes=6, seed=3, **settings), initial(), None
    for number in (1, 2):
        before = flat(net.state_dict())
        updates = [flat(trained(net, node)[0].state_dict()) - before for node in range(6)]
        wanted = strategies.aggregate(
            joined, updates, num_examples=[24 + i for i in range(6)], start=before, seed=3, round=number, memory=memory,
            client_ids=[node % (2**63 - 1) for node in NODES], **settings,
        )  # fmt: skip
        arrays, metrics = one_round(strategy, net, number=number)
        after = model(arrays)
        found = flat(after.state_dict())
        np.testing.assert_array_equal(found, (before.astype(np.float64) + wanted.delta).astype(np.float32))
        assert [strategy.influence[node] for node in NODES] == wanted.influence.tolist()
        losses = [trained(net, node)[1] for node in range(6)]
        assert metrics["train_loss"] == pytest.approx(np.average(losses, weights=range(24, 30)))  # as FedAvg's
        net, memory = after, wanted.memory
    assert set(strategy.memory) == set(wanted.memory)


def test_steps_that_know_the_output_layer_find_it_by_the_names_of_the_state_dict():
    strategy, net = RobustStrategy("foolsgold", min_train_nodes=6), initial()
    one_round(strategy, net)
    assert strategy.memory["foolsgold"]["sums"].shape == (6, 8 * 2 + 2)
    unnamed = ArrayRecord([p.detach().numpy() for p in net.parameters()])
    with pytest.raises(UserError, match="foolsgold needs the names of the model's tensors"):
        RobustStrategy("foolsgold").configure_train(1, unnamed, ConfigRecord(), Grid())


def test_counters_stay_integers_and_no_liar_moves_them_beyond_the_honest():
    def lying(node):
        content = content_of(initial(), node)
        if node == 0:
            content["arrays"]["norm.num_batches_tracked"] = Array(np.array(10**15))
        return content

    arrays, _ = one_round(RobustStrategy("median", min_train_nodes=6), initial(), lying)
    counter = arrays["norm.num_batches_tracked"].numpy()
    assert counter.dtype == np.int64 and counter.shape == () and counter == 3
    assert {name: a.dtype for name, a in arrays.items()} == {
        n: str(v.numpy().dtype) for n, v in Net().state_dict().items()
    }


def test_statistics_are_no_part_of_norms_unless_it_is_said():
    def huge(node):
        content = content_of(initial(), node)
        if node == 0:
            content["arrays"]["norm.running_var"] = Array(np.full(8, 1e6, np.float32))
        return content

    kept, counted = RobustStrategy("krum", min_train_nodes=6), RobustStrategy("clip", min_train_nodes=6, statistics=())
    one_round(kept, initial(), huge)
    one_round(counted, initial(), huge)
    assert kept._model.layout.statistic_count == 16 and counted._model.layout.statistic_count == 0


def test_other_float_types_come_back_as_they_were():
    net = {"w": np.linspace(0, 1, 5), "h": np.ones(3, np.float16), "on": np.array([True, False])}
    arrays = ArrayRecord({name: Array(value) for name, value in net.items()})

    def content(node):
        moved = {"w": net["w"] + node, "h": net["h"] * 2, "on": np.array([False, False])}
        sent = ArrayRecord({name: Array(value) for name, value in moved.items()})
        return RecordDict({"arrays": sent, "metrics": MetricRecord({"num-examples": 1})})

    strategy = RobustStrategy("fedavg", min_train_nodes=6)
    said = replies_of(list(strategy.configure_train(1, arrays, ConfigRecord(), Grid())), content)
    after, _ = strategy.aggregate_train(1, said)
    np.testing.assert_allclose(after["w"].numpy(), net["w"] + 2.5, rtol=1e-6)
    assert [after[n].numpy().dtype for n in net] == [np.float64, np.float16, np.bool_]
    assert after["h"].numpy().tolist() == [2, 2, 2] and after["on"].numpy().tolist() == [False, False]


def spoilt(**changes):
    """The contents of an honest reply, but for node 0 with these."""

    def content(node):
        found = content_of(initial(), node)
        if node == 0:
            for name, value in changes.items():
                found[name] = value
        return found

    return content


def arrays_with(**changes):
    state = {name: value.numpy() for name, value in initial().state_dict().items()}
    return ArrayRecord(
        {n: Array(v) for n, v in (state | {k.replace("_", ".", 1): v for k, v in changes.items()}).items()}
    )


BAD = [
    ({"arrays": ArrayRecord([np.zeros(3, np.float32)])}, "not the model's"),
    ({"arrays": arrays_with(fc1_bias=np.full(8, np.nan, np.float32))}, "fc1.bias has values that are not finite"),
    ({"arrays": arrays_with(fc1_bias=np.zeros(9, np.float32))}, "have shape"),
    ({"arrays": arrays_with(fc1_bias=np.zeros(8))}, "are float64"),
    ({"metrics": MetricRecord({"train_loss": 1.0})}, "num-examples is None"),
    ({"metrics": MetricRecord({"train_loss": 1.0, "num-examples": -5})}, "num-examples is -5"),
    ({"metrics": MetricRecord({"train_loss": [1.0, 2.0], "num-examples": 5})}, "not those that most others sent"),
    ({"more": MetricRecord({"a": 1})}, "2 records of metrics"),
]


@pytest.mark.parametrize(("changes", "words"), BAD)
def test_a_bad_reply_is_left_out_and_said_or_ends_the_run(changes, words, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("flwr"), "propagate", True)
    strategy = RobustStrategy("fedavg", min_train_nodes=6)
    arrays, _ = one_round(strategy, initial(), spoilt(**changes))
    assert words in strategy.left_out[NODES[0]] and words in caplog.text and str(NODES[0]) in caplog.text
    assert list(strategy.influence) == sorted(NODES[1:])
    alone, _ = one_round(RobustStrategy("fedavg", min_train_nodes=5), initial(), nodes=NODES[1:])
    for name in arrays:
        np.testing.assert_array_equal(arrays[name].numpy(), alone[name].numpy())
    with pytest.raises(RunError, match=f"node {NODES[0]} was left out"):
        one_round(RobustStrategy("fedavg", min_train_nodes=6, on_bad_reply="fail"), initial(), spoilt(**changes))


def test_a_round_without_a_usable_reply_ends_the_run_and_does_not_pass_for_one():
    strategy = RobustStrategy("fedavg", min_train_nodes=6)
    with pytest.raises(RunError, match=r"round 1: no reply that could be used.*NaN"):
        one_round(strategy, initial(), lambda node: spoilt(**BAD[1][0])(0))


def test_an_error_reply_is_left_out():
    strategy, net = RobustStrategy("fedavg", min_train_nodes=6), initial()
    messages = list(strategy.configure_train(1, ArrayRecord(net.state_dict()), ConfigRecord({"lr": 0.1}), Grid()))
    said = replies_of(messages[1:], lambda node: content_of(net, node))
    failed = Message(Error(code=0, reason="Node Unavailable"), reply_to=messages[0])
    strategy.aggregate_train(1, [failed, *said])
    assert len(strategy.influence) == 5 and "gone" in next(iter(strategy.left_out.values()))


def test_who_claims_many_examples_is_believed_unless_all_weigh_alike():
    liar = spoilt(metrics=MetricRecord({"train_loss": 1.0, "num-examples": 10**9}))
    believed, alike = (
        RobustStrategy("fedavg", min_train_nodes=6),
        RobustStrategy("fedavg", min_train_nodes=6, weigh_equally=True),
    )
    one_round(believed, initial(), liar)
    one_round(alike, initial(), liar)
    assert believed.influence[NODES[0]] > 0.99 and alike.influence[NODES[0]] == pytest.approx(1 / 6)


def test_the_servers_own_training_is_asked_for_by_name_and_used():
    with pytest.raises(UserError, match="fltrust needs root, and was given none: a function"):
        RobustStrategy("clip+fltrust")
    asked = []

    def own(arrays, number):
        asked.append(number)
        return ArrayRecord(trained(model(arrays), 3)[0].state_dict())

    strategy, net = RobustStrategy("fltrust", root=own, min_train_nodes=6), initial()
    arrays, _ = one_round(strategy, net, number=4)
    before = flat(net.state_dict())
    updates = [flat(trained(net, node)[0].state_dict()) - before for node in range(6)]
    wanted = strategies.aggregate(
        "fltrust", updates, root=updates[3], round=4, client_ids=[n % (2**63 - 1) for n in NODES]
    )
    assert asked == [4]
    np.testing.assert_allclose(flat(model(arrays).state_dict()) - before, wanted.delta, atol=1e-6)
    assert strategy.influence[NODES[0]] == 0  # its labels are flipped


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"strategy": "krumm"}, "'krumm' is unknown; known: "),
        ({"strategy": "krum+clip"}, "a strategy is filters, then one rule, then finishes"),
        ({"strategy": "krum", "assumed_malicious": -1}, "assumed_malicious = -1"),
        ({"strategy": "krum", "clip_norm": 1.0}, "clip_norm = 1.0: krum does not use it"),
        ({"strategy": "krum", "min_fit_clients": 2}, "min_fit_clients: no such setting"),
        ({"strategy": "krum", "statistics": "*var"}, "wanted a list of patterns"),
        ({"strategy": "krum", "on_bad_reply": "skip"}, "wanted 'drop' or 'fail'"),
        ({"strategy": None}, "strategy = None"),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_made(arguments, words):
    with pytest.raises(UserError, match=re.escape(words)):
        RobustStrategy(**arguments)


@pytest.mark.parametrize(
    ("arguments", "words"), [({"seed": -1}, "seed = -1"), ({"memory": {"krum": {}}}, "memory of krum")]
)
def test_a_seed_or_a_memory_that_is_none_is_refused_too(arguments, words):
    with pytest.raises(RuleError, match=words):
        RobustStrategy("clip", **arguments)


def test_too_few_replies_for_the_rule_end_the_run_with_the_numbers():
    with pytest.raises(RuleError, match="round 1: Krum needs"):
        one_round(RobustStrategy("krum", min_train_nodes=2, fraction_train=0.34), initial())


def test_a_model_that_cannot_be_aggregated_is_refused():
    for arrays, words in (
        ({"w": np.zeros(2, np.complex64)}, "wanted real numbers"),
        ({"n": np.zeros(2, np.int64)}, "has no weights"),
        ({"w": np.full(2, np.inf, np.float32)}, "not finite"),
    ):
        record = ArrayRecord({name: Array(value) for name, value in arrays.items()})
        with pytest.raises(UserError, match=words):
            RobustStrategy("fedavg").configure_train(1, record, ConfigRecord(), Grid())


SCRIPT = """
import sys, types
sys.path.insert(0, {root!r})
from tests.strategies import foreign_app
sys.modules["my_app"] = types.ModuleType("my_app")
sys.modules["my_app.task"] = types.SimpleNamespace(Net=foreign_app.initial)
exec(compile({example!r}, "flower-app.md", "exec"))
from flwr.simulation import run_simulation
loopback = dict(address="local", _temp_dir={temp!r}, _node_ip_address="127.0.0.1", include_dashboard=False)
loopback |= dict(num_cpus=2, log_to_driver=False)
run_simulation(app, foreign_app.app, 5, backend_config=dict(client_resources=dict(num_cpus=1), init_args=loopback))
"""


@pytest.mark.network
def test_the_example_of_the_docs_runs_in_flowers_simulation_and_comes_to_what_aggregate_does(tmp_path):
    text = (ROOT / "docs" / "howto" / "flower-app.md").read_text()
    (example,) = (b for b in re.findall(r"```python\n(.*?)```", text, re.S) if "RobustStrategy" in b)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    script = SCRIPT.format(root=str(ROOT), example=example, temp=str(short_folder()))
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True, timeout=250)
    net = initial()
    for number in (1, 2, 3):
        before = flat(net.state_dict())
        updates = [flat(trained(net, node)[0].state_dict()) - before for node in range(5)]
        found = strategies.aggregate("clip+krum", updates, assumed_malicious=1, round=number)
        assert found.influence[0] == 0  # who flips labels is not chosen
        winner = int(found.influence.argmax())
        after = trained(net, winner)[0]
        state = after.state_dict()
        at = 0
        for name, value in net.state_dict().items():
            if not re.search("running|tracked", name):
                own = found.delta[at : at + value.numel()].reshape(value.shape)
                state[name], at = value + torch.from_numpy(own), at + value.numel()
        net.load_state_dict(state)
    saved = torch.load(tmp_path / "final_model.pt", weights_only=True)
    assert json.dumps(list(saved)) == json.dumps(list(net.state_dict()))
    for name, value in net.state_dict().items():
        if not re.search("tracked", name):
            np.testing.assert_allclose(saved[name].numpy(), value.numpy(), rtol=1e-5, atol=1e-6)


class Started(RobustStrategy):
    """Flower's own round loop, with clients that are played."""

    def configure_train(self, server_round, arrays, config, grid):
        self.messages = super().configure_train(server_round, arrays, config, Grid())
        return []

    def aggregate_train(self, server_round, replies):
        found = super().aggregate_train(
            server_round, replies_of(self.messages, lambda node: content_of(initial(), node))
        )
        self.made = [*getattr(self, "made", []), flat(model(found[0]).state_dict())]
        return found

    def configure_evaluate(self, *_):
        return []


class Sends(Grid):
    def send_and_receive(self, messages, timeout=None):
        return []


@pytest.mark.parametrize("rounds", [1, 2, 7])
def test_what_depends_on_how_many_rounds_there_are_goes_by_those_of_the_app(rounds):
    """CRFL adds no noise in the last round; by our own default of five it did in an app's last, and did not in its fifth."""
    strategy, plain = Started("fedavg+crfl", min_train_nodes=6, crfl_sigma=0.5), Started("fedavg", min_train_nodes=6)
    for each in (strategy, plain):
        each.start(Sends(), ArrayRecord(initial().state_dict()), num_rounds=rounds)
    noise = [np.abs(made - plain.made[0]).max() for made in strategy.made]  # clients answer the same in each round
    assert all(most > 0.5 for most in noise[:-1]) and noise[-1] < 1e-5


def test_without_that_number_such_a_step_is_refused():
    strategy = RobustStrategy("fedavg+crfl", min_train_nodes=6)
    with pytest.raises(UserError, match=r"crfl goes by how many rounds there are: rounds=N, or start\("):
        one_round(strategy, initial())
    one_round(RobustStrategy("fedavg+crfl", min_train_nodes=6, rounds=4), initial())
