"""CUDA graphs of a training step. No test has a GPU: a played graph does the captured step again, as a card would."""

import numpy as np
import pytest
import torch

from oleander.learning import graphs
from oleander.learning.parameters import arrays_of, load_arrays
from oleander.learning.training import Hooks, train
from oleander.settings.config import Experiment
from tests.learning.test_training import shard

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def captures(monkeypatch):
    """A card that is played; how many steps were captured."""
    made = []

    def recorded(step, inputs, labels):
        for _ in range(graphs.WARM_UP):
            step(inputs, labels)
        loss = step(inputs, labels)
        made.append(step)
        return lambda: loss.copy_(step(inputs, labels)), loss

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(graphs, "_recorded", recorded)
    return made


def small():
    """Convolution, batch norm, a layer."""
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, 2), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(4 * 15 * 15, 4)
    )


EAGER = Experiment(precision="fp32", batch_size=8, local_epochs=2, lr=0.05, weight_decay=0.01)
GRAPHED = EAGER.changed(cuda_graphs=True)


def trained(model, experiment, m=20, round_number=1, hooks=()):
    fit = train(model, shard(m=m), experiment, round_number, hooks=hooks)
    return fit, arrays_of(model)


def same(one, other):
    assert one[0] == other[0]
    for left, right in zip(one[1], other[1], strict=True):
        assert np.array_equal(left, right)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("m", [20, 16, 5])
def test_training_by_graphs_is_training(captures, momentum, m):
    expected = trained(small(), EAGER.changed(momentum=momentum), m)
    same(trained(small(), GRAPHED.changed(momentum=momentum), m), expected)
    assert len(captures) == (m >= 8)


def test_a_graph_is_captured_once_for_all_rounds_and_clients_of_a_model(captures):
    model, plain = small(), small()
    start = arrays_of(model)
    for number in (1, 2, 3):
        load_arrays(model, start)
        load_arrays(plain, start)
        same(trained(model, GRAPHED, round_number=number), trained(plain, EAGER, round_number=number))
    assert len(captures) == 1


@pytest.mark.parametrize("changed", [{"lr": 0.01}, {"momentum": 0.5}, {"weight_decay": 0.0}, {"batch_size": 4}])
def test_what_is_fixed_in_a_graph_makes_another_where_it_changes(captures, changed):
    model, plain = small(), small()
    trained(model, GRAPHED)
    trained(plain, EAGER)
    same(trained(model, GRAPHED.changed(**changed)), trained(plain, EAGER.changed(**changed)))
    assert len(captures) == 2


def test_steps_that_an_attack_changes_or_a_dropout_draws_are_not_captured(captures):
    halved = Hooks(gradients=lambda gradients: [gradient / 2 for gradient in gradients])
    same(trained(small(), GRAPHED, hooks=[halved]), trained(small(), EAGER, hooks=[halved]))
    dropping = [torch.nn.Sequential(*small(), torch.nn.Dropout(0.5)) for _ in range(2)]
    same(trained(dropping[0], GRAPHED), trained(dropping[1], EAGER))
    assert not captures


def test_a_client_without_a_gpu_says_so():
    with pytest.raises(ValueError, match="--cuda-graphs, but this client has no GPU"):
        trained(small(), GRAPHED)
