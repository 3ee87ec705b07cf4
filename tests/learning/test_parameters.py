"""A model as numbers, tensor by tensor: which vector a tensor is in, where, and under what name."""

import numpy as np
import pytest
import torch

from oleander.learning.parameters import Layout, ModelState, arrays_of, load_arrays, named_arrays
from tests.spaces import fresh_model, layout_of


def model() -> torch.nn.Module:
    """Weights of 6 + 2, 2, 2 and statistics of 2, 2, with a counter, in the order of the state dict; no two numbers alike."""
    made = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    with torch.no_grad():
        for i, tensor in enumerate(made.state_dict().values()):
            tensor.copy_((torch.arange(tensor.numel()).reshape(tensor.shape) + 10 * i).to(tensor.dtype))
    return made


NAMES = ("0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var")


def test_a_layout_names_what_is_sent_in_the_order_of_the_state_dict():
    layout = Layout.of(model())
    assert layout.names == NAMES and layout.shapes == ((2, 3), (2,), (2,), (2,), (2,), (2,))
    assert layout.is_weight == (True, True, True, True, False, False)
    assert (layout.sizes, layout.weight_count, layout.statistic_count) == ((6, 2, 2, 2, 2, 2), 12, 4)
    assert layout.variances.tolist() == [False, False, True, True]


def test_weights_and_statistics_lie_in_vectors_of_their_own_one_tensor_after_the_other():
    layout = Layout.of(model())
    state = layout.flatten(arrays_of(model()))
    assert state.weights.tolist() == [0, 1, 2, 3, 4, 5, 10, 11, 20, 21, 30, 31]
    assert state.statistics.tolist() == [40, 41, 50, 51]
    assert [array.tolist() for array in state.sent()] == [state.weights.tolist(), state.statistics.tolist()]
    for array, shape, own in zip(layout.unflatten(state), layout.shapes, arrays_of(model()), strict=True):
        assert array.shape == shape and array.dtype == np.float32
        np.testing.assert_array_equal(array, own)
    named = named_arrays(layout, state)
    assert tuple(named) == NAMES and named["1.running_var"].tolist() == [50, 51]


def test_a_number_is_traced_to_its_tensor():
    layout = Layout.of(model())
    assert [layout.tensor_at(i, weight=True) for i in (0, 5, 6, 7, 8, 11)] == [
        "0.weight", "0.weight", "0.bias", "0.bias", "1.weight", "1.bias",
    ]  # fmt: skip
    assert [layout.tensor_at(i, weight=False) for i in (0, 1, 2, 3)] == ["1.running_mean"] * 2 + ["1.running_var"] * 2


@pytest.mark.parametrize(
    ("modules", "own"),
    [
        ([torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2)], slice(24, 34)),
        ([torch.nn.Linear(3, 4), torch.nn.Linear(4, 2, bias=False), torch.nn.ReLU()], slice(16, 24)),
        ([torch.nn.Linear(3, 4)], slice(0, 16)),
    ],
)
def test_the_output_layer_is_the_last_layers_weight_and_bias(modules, own):
    model = torch.nn.Sequential(*modules)
    last = [module for module in modules if isinstance(module, torch.nn.Linear)][-1]
    layout = Layout.of(model)
    assert layout.output_layer() == own
    numbers = torch.cat([p.detach().flatten() for p in last.parameters()]).numpy()
    np.testing.assert_array_equal(layout.flatten(arrays_of(model)).weights[layout.output_layer()], numbers)


def test_a_model_that_is_one_layer_is_its_output_layer():
    assert Layout.of(torch.nn.Linear(3, 4)).output_layer() == slice(0, 16)


def test_the_output_layer_of_resnet18light_is_its_linear_layer():
    model = fresh_model(10, 0)
    where = Layout.of(model).output_layer()
    assert (where.stop - where.start, where.stop) == (256 * 10 + 10, 2_797_610)
    with torch.no_grad():
        model.linear.weight.fill_(7)
        model.linear.bias.fill_(7)
    layout = Layout.of(model)
    weights = layout.flatten(arrays_of(model)).weights
    assert (weights[where] == 7).all() and not (weights[: where.start] == 7).any()


def test_what_is_loaded_is_a_copy_and_counters_begin_again():
    made = model()
    sent = [array + 1 for array in arrays_of(made)]
    load_arrays(made, sent)
    assert made[1].num_batches_tracked == 0
    sent[0][:] = -1
    assert made[0].weight.tolist() == [[1, 2, 3], [4, 5, 6]]
    own = arrays_of(made)
    own[0][:] = -1
    assert made[0].weight.tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize("count", [5, 7])
def test_another_number_of_tensors_is_not_taken(count):
    arrays = (arrays_of(model()) * 2)[:count]
    with pytest.raises(ValueError):
        load_arrays(model(), arrays)
    with pytest.raises(ValueError):
        Layout.of(model()).flatten(arrays)


def test_a_model_without_statistics_has_none():
    layout = Layout.of(torch.nn.Linear(3, 2))
    assert layout.statistic_count == 0 and layout.variances.shape == (0,) and layout.variances.dtype == bool
    state = layout.flatten(arrays_of(torch.nn.Linear(3, 2)))
    assert isinstance(state, ModelState) and state.statistics.shape == (0,)


def test_layout_keeps_weights_and_statistics_apart_and_sends_no_counter():
    model = fresh_model(10, 0)
    layout = Layout.of(model)
    assert layout.weight_count == 2_797_610
    assert layout.statistic_count == sum(b.numel() for n, b in model.named_buffers() if "running" in n)
    assert layout.variances.sum() == layout.statistic_count // 2
    assert not any("num_batches_tracked" in name for name in layout.names)
    assert layout_of(10) == layout


def test_flatten_and_unflatten_are_inverse_and_load_restores_the_function():
    model, other = fresh_model(10, 0), fresh_model(10, 1)
    with torch.no_grad():
        model(torch.rand(8, 3, 32, 32))  # moves the statistics
    layout = Layout.of(model)
    load_arrays(other, layout.unflatten(layout.flatten(arrays_of(model))))
    for (name, a), b in zip(model.state_dict().items(), other.state_dict().values(), strict=True):
        if "num_batches" not in name:
            assert torch.equal(a, b), name
