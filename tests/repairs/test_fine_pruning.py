"""Fine-pruning: which channels go, in which order and how many, and that they stay away while the rest is fine-tuned."""

import numpy as np
import pytest
import torch
from torch import nn

from oleander.datasets.data import Shard
from oleander.learning.parameters import Layout, arrays_of, load_arrays
from oleander.models.resnet18light import ResNet18Light
from repairs._layers import last_convolution
from repairs.fine_pruning import fine_pruning
from strategies import RuleError
from tests.repairs.made import IMAGE, made_root, module_of


class Channels(nn.Module):
    """Four channels, each k times the image's mean brightness less a bound; two classes by the channels' sum."""

    def __init__(self, scales, shifts, head):
        super().__init__()
        self.conv = nn.Conv2d(1, len(scales), 1)
        self.linear = nn.Linear(len(scales), 2)
        with torch.no_grad():
            self.conv.weight[:, 0, 0, 0] = torch.tensor(scales)
            self.conv.bias.copy_(torch.tensor(shifts))
            self.linear.weight.copy_(torch.tensor(head))
            self.linear.bias.zero_()

    def forward(self, x):
        return self.linear(torch.relu(self.conv(x)).mean(dim=(2, 3)))


BRIGHT = Shard(9, np.repeat(np.array([20, 230], np.uint8), 10)[:, None, None, None] * np.ones((1, 1, 4, 4), np.uint8),
               np.repeat([0, 1], 10), IMAGE)  # fmt: skip
"""Ten dark images of class 0, ten bright ones of class 1."""


def repaired(net, drop=0.04, epochs=1, lr=1e-9, shard=BRIGHT):
    layout = Layout.of(net)
    after = fine_pruning(
        layout.flatten(arrays_of(net)), root=made_root(shard), layout=layout, module=module_of(net, layout), image=IMAGE,
        finetune_epochs=epochs, finetune_lr=lr, fine_pruning_drop=drop,
    )  # fmt: skip
    load_arrays(net, layout.unflatten(after))
    return net


def left(net):
    """The channels that are there still."""
    return [i for i, row in enumerate(net.conv.weight.flatten(1)) if bool(row.any()) or bool(net.conv.bias[i])]


def by_hand(net, shard, drop, steps=64):
    """The channels that are left, by the definition, in NumPy: (their numbers, how many of the images were right at first)."""
    brightness = shard.images.reshape(len(shard.labels), -1).mean(axis=1) / 255  # every pixel of an image is alike
    scales, shifts = net.conv.weight.detach().numpy().ravel(), net.conv.bias.detach().numpy()
    active = np.maximum(brightness[:, None] * scales + shifts, 0)  # (m, channels)
    order = sorted(range(len(scales)), key=lambda c: active[:, c].mean())

    def right(gone):
        kept = active.copy()
        kept[:, list(gone)] = 0
        logits = kept @ net.linear.weight.detach().numpy().T + net.linear.bias.detach().numpy()
        return int((logits.argmax(axis=1) == shard.labels).sum())

    whole, gone = right([]), []
    counts = sorted({int(k * len(order) / min(steps, len(order))) for k in range(1, min(steps, len(order)) + 1)})
    for count in counts:
        if right(order[:count]) < whole - drop * len(shard.labels):
            break
        gone = order[:count]
    return sorted(set(range(len(scales))) - set(gone)), whole


@pytest.mark.parametrize("channels", [3, 12, 100])
@pytest.mark.parametrize("drop", [0.0, 0.04, 0.3, 1.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_channels_that_go_are_those_of_the_definition(seed, drop, channels):
    rng = np.random.default_rng(seed)
    scales, shifts = rng.normal(size=(2, channels)).astype(np.float32)
    net = Channels(scales, shifts, rng.normal(size=(2, channels)).astype(np.float32))
    images = rng.integers(0, 256, 40).astype(np.uint8)[:, None, None, None] * np.ones((1, 1, 4, 4), np.uint8)
    with torch.no_grad():
        found = net(torch.from_numpy(images) / 255).argmax(dim=1).numpy()
    shard = Shard(9, images, np.where(rng.random(40) < 0.2, 1 - found, found), IMAGE)
    expected, whole = by_hand(net, shard, drop)
    assert 0 < whole < 40
    assert left(repaired(net, drop, shard=shard)) == expected
    assert drop < 1 or expected == []


def test_a_dormant_channel_goes_and_the_backdoor_that_sits_in_it():
    """Channel 0 wakes for black images alone, of which there are none among the clean ones, and then outweighs all others."""
    net = Channels([-10.0, 1.0, 0.0], [0.5, 0.0, 0.4], [[0.0, 0.0, 1.0], [50.0, 1.0, 0.0]])
    black, clean = torch.zeros(1, 1, 4, 4), torch.from_numpy(BRIGHT.images) / 255
    assert int(net(black).argmax()) == 1 and net(clean).argmax(dim=1).tolist() == BRIGHT.labels.tolist()
    repaired(net)
    assert left(net) == [1, 2]
    assert int(net(black).argmax()) == 0 and net(clean).argmax(dim=1).tolist() == BRIGHT.labels.tolist()


def test_what_is_gone_stays_away_while_the_rest_is_fine_tuned_even_beside_a_shortcut():
    """The last norm of a ResNet has a gradient where it gives 0, since the shortcut is added before the ReLU."""
    torch.manual_seed(3)
    net = ResNet18Light(2, 1, widths=(4, 4, 4, 8))
    with torch.no_grad():
        net.linear.bias.copy_(torch.tensor([9.0, 0.0]))  # all are of class 0, whatever is removed …
    shard = Shard(9, BRIGHT.images, np.r_[np.zeros(10, np.int64), np.ones(10, np.int64)], IMAGE)
    before = net.layer4[1].bn2.weight.detach().clone()
    last = last_convolution(net, IMAGE)
    assert last.layer is net.layer4[1].conv2 and last.norm is net.layer4[1].bn2
    conv = net.layer4[0].conv1.weight.detach().clone()
    repaired(net, drop=0.0, epochs=3, lr=0.1, shard=shard)
    assert before.all() and not net.layer4[1].bn2.weight.any() and not net.layer4[1].bn2.bias.any()  # … so all are
    assert (net.layer4[0].conv1.weight != conv).any() and (net.linear.bias != torch.tensor([9.0, 0.0])).all()


def test_of_a_model_whose_output_layer_is_a_convolution_the_one_before_it_is_pruned():
    body, head = nn.Conv2d(1, 3, 1), nn.Conv2d(3, 2, 1)
    net = nn.Sequential(body, nn.ReLU(), head, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert last_convolution(net, IMAGE).layer is body and last_convolution(net, IMAGE).norm is None
    only = nn.Sequential(nn.Conv2d(1, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert last_convolution(only, IMAGE) is None


def test_without_a_convolution_it_refuses():
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    with pytest.raises(RuleError, match=r"fine_pruning removes channels of the last convolution .* there is none"):
        repaired(net)
