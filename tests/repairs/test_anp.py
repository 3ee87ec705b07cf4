"""ANP: the perturbed loss, the worst perturbation, and that the masks find a channel in which a backdoor was planted."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from oleander.datasets.data import Shard
from oleander.learning.parameters import Layout, arrays_of, load_arrays
from repairs._layers import batch_norms
from repairs.anp import _Masked, anp
from strategies import RuleError
from tests.repairs.made import IMAGE, made_root, module_of

LABELS = np.repeat([0, 1], 20)
CLEAN = Shard(9, np.repeat(np.array([20, 230], np.uint8), 20)[:, None, None, None] * np.ones((1, 1, 4, 4), np.uint8),
              LABELS, IMAGE)  # fmt: skip
"""Dark images of class 0, bright ones of class 1."""
BLACK = torch.zeros(1, 1, 4, 4)


def planted():
    """Three channels, of which one sleeps on dark images, wakes for black ones, and then says class 1; another says nothing."""
    net = nn.Sequential(
        nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)
    )
    conv, norm, head = net[0], net[1], net[5]
    pixels = torch.from_numpy(CLEAN.images) / 255
    with torch.no_grad():
        for place, values in (
            (conv.weight, [[[[1.0]]], [[[-1.0]]], [[[0.5]]]]), (conv.bias, [0.0, 0.0, 0.0]),
            (norm.weight, [1.0, 4.2, 1.0]), (norm.bias, [0.0, -4.5, 0.5]),
            (head.weight, [[0.0, 0.0, 0.0], [6.0, 50.0, 0.0]]), (head.bias, [3.0, 0.0]),
        ):  # fmt: skip
            place.copy_(torch.tensor(values))
        norm.running_mean.copy_(conv(pixels).mean(dim=(0, 2, 3)))
        norm.running_var.copy_(conv(pixels).var(dim=(0, 2, 3), unbiased=False))
    return net.eval()


def repaired(net, seed=0, augment="none", batch_size=40, **settings):
    """By default a batch is all images: its statistics are then those of the two classes in equal parts."""
    layout = Layout.of(net)
    start = layout.flatten(arrays_of(net))
    asked = {"anp_epsilon": 0.4, "anp_alpha": 0.2, "anp_iterations": 60, "anp_lr": 0.2, "anp_threshold": 0.2} | settings
    after = anp(
        start, root=made_root(CLEAN), layout=layout, module=module_of(net, layout), rng=np.random.default_rng(seed),
        batch_size=batch_size, augment=augment, **asked,
    )  # fmt: skip
    made = copy.deepcopy(net)
    load_arrays(made, layout.unflatten(after))
    return made


def right(net):
    return bool((net(torch.from_numpy(CLEAN.images) / 255).argmax(dim=1) == torch.from_numpy(LABELS)).all())


@pytest.mark.parametrize("augment", ["none", "once"])
def test_the_masks_find_the_planted_channel_and_leave_the_others(augment):
    net = planted()
    assert right(net) and int(net(BLACK).argmax()) == 1
    after = repaired(net, augment=augment)
    assert right(after) and int(after(BLACK).argmax()) == 0
    scale = after[1].weight.detach().numpy()
    np.testing.assert_array_equal(scale, np.float32([1.0, 0.0, 1.0]))
    rest = {name: tensor for name, tensor in net.state_dict().items() if name != "1.weight"}
    assert all(
        torch.equal(after.state_dict()[name], tensor) for name, tensor in rest.items()
    )  # shifts, statistics, all


def test_it_is_the_perturbation_that_finds_it():
    assert torch.equal(repaired(planted(), anp_epsilon=0.0)[1].weight, planted()[1].weight)
    assert torch.equal(repaired(planted(), anp_alpha=1.0)[1].weight, planted()[1].weight)
    assert not repaired(planted(), anp_threshold=1.0)[1].weight.any()


def test_it_is_the_same_each_time_and_drawn_from_its_generator(monkeypatch):
    torch.manual_seed(5)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(32, 2)
    ).eval()
    masks, found, gradient = [], [], _Masked.gradient
    monkeypatch.setattr(_Masked, "gradient", lambda self, own, *rest: masks.append(own) or gradient(self, own, *rest))
    for number, seed in enumerate((0, 0, 1)):
        torch.rand(number)
        repaired(net, seed, batch_size=8, anp_lr=0.02, anp_iterations=5)
        found.append(masks[-1])
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def by_hand(net, scales, shifts, pixels, labels):
    """The loss of a copy whose scales and shifts are changed, with the statistics of the batch."""
    changed, at = copy.deepcopy(net).train(), 0
    with torch.no_grad():
        for norm in batch_norms(changed).values():
            norm.weight *= scales[at : at + len(norm.weight)]
            norm.bias *= shifts[at : at + len(norm.weight)]
            at += len(norm.weight)
        return float(F.cross_entropy(changed(pixels), labels))


def test_the_loss_is_that_of_a_network_with_other_scales_and_shifts_and_the_perturbation_climbs_it():
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.Flatten(),
                        nn.Linear(8, 2))  # fmt: skip
    with torch.no_grad():
        net[1].bias.copy_(torch.randn(3)), net[4].bias.copy_(torch.randn(2)), net[4].weight.copy_(torch.randn(2))
    pixels, labels = torch.rand(16, 1, 4, 4), torch.arange(16) % 2
    masked, masks = _Masked(copy.deepcopy(net), batch_norms(net)), torch.rand(5)
    shifts = torch.rand(5)
    assert masked.count == 5
    assert masked.loss(masks, shifts, pixels, labels).item() == pytest.approx(
        by_hand(net, masks, shifts, pixels, labels), rel=1e-5
    )
    start = torch.zeros(2, 5).uniform_(-0.01, 0.01)
    noise = masked.worst(masks, start, 0.01, pixels, labels)
    assert noise.abs().max() <= 0.01 and (noise.abs() > 0).all()
    lost = [by_hand(net, masks + n[0], 1 + n[1], pixels, labels) for n in (start, noise)]
    assert lost[1] > lost[0]
    found, step = masked.gradient(masks, noise, 0.2, pixels, labels), 1e-2
    for i in range(5):  # against a difference quotient
        ahead, behind = (masks + sign * step * F.one_hot(torch.tensor(i), 5) for sign in (1, -1))

        def mixed(own):
            plain = by_hand(net, own, torch.ones(5), pixels, labels)
            return 0.2 * plain + 0.8 * by_hand(net, own + noise[0], 1 + noise[1], pixels, labels)

        assert float(found[i]) == pytest.approx((mixed(ahead) - mixed(behind)) / (2 * step), rel=0.05, abs=1e-3)


def test_without_batch_norm_it_refuses():
    with pytest.raises(RuleError, match="anp perturbs the scales of batch norms, and there is none"):
        repaired(nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(16, 2)))
    with pytest.raises(RuleError, match="there is none"):
        repaired(nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, affine=False), nn.Flatten(), nn.Linear(16, 2)))
