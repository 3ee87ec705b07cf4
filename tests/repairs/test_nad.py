"""NAD: what attention is, which layers it is compared in, that distillation brings it closer, and that it is fine-tuning without."""

import numpy as np
import pytest
import torch
from torch import nn

from oleander import models
from oleander.datasets.data import Shard
from oleander.learning.parameters import Layout, arrays_of
from oleander.models.resnet18light import ResNet18Light
from repairs._layers import inputs_of, map_sizes, maps_of
from repairs.nad import attention, distance, nad
from strategies import RuleError
from tests.repairs.made import IMAGE, made_root, module_of
from tests.spaces import GREY16


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(24, 2))  # fmt: skip


def shard(m=24):
    rng = np.random.default_rng(1)
    return Shard(9, rng.integers(0, 256, (m, 1, 4, 4), dtype=np.uint8), rng.integers(0, 2, m), IMAGE)


def repaired(net, beta=1000.0, teach=5, teach_lr=0.05, epochs=5, lr=0.05):
    layout = Layout.of(net)
    return nad(
        layout.flatten(arrays_of(net)), root=made_root(shard()), layout=layout, module=module_of(net, layout), image=IMAGE,
        finetune_epochs=teach, finetune_lr=teach_lr, nad_epochs=epochs, nad_lr=lr, nad_beta=beta,
    )  # fmt: skip


def test_attention_and_its_distance_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    one, two = ({size: rng.normal(size=(3, c, *size)) for size, c in (((4, 4), 5), ((2, 3), 7))} for _ in range(2))

    def by_hand(maps):
        looks = (maps**2).sum(axis=1)
        return looks / np.sqrt((looks**2).sum(axis=(1, 2), keepdims=True))

    wanted = sum(((by_hand(one[size]) - by_hand(two[size])) ** 2).mean() for size in one)
    found = distance(*({size: torch.from_numpy(maps) for size, maps in own.items()} for own in (one, two)))
    assert float(found) == pytest.approx(wanted, rel=1e-5) and wanted > 0
    looks = attention(torch.from_numpy(one[4, 4]))
    assert looks.shape == (3, 16) and torch.allclose(looks.norm(dim=1), torch.ones(3))
    assert not attention(torch.zeros(2, 3, 4, 4)).any()


def test_the_maps_of_a_resnet_are_its_groups_outputs_and_of_a_plain_network_the_last_before_each_pooling():
    net, seen = ResNet18Light(10, 1, widths=(2, 3, 4, 5)).eval(), {}
    for group in (net.layer1, net.layer2, net.layer3, net.layer4):
        group.register_forward_hook(lambda _m, _given, out: seen.update({tuple(out.shape[2:]): out}))
    pixels = torch.rand(2, 1, 16, 16)
    with torch.no_grad(), maps_of(net) as maps:
        net(pixels)
    assert list(maps) == [(16, 16), (8, 8), (4, 4), (2, 2)] and all(torch.equal(maps[s], seen[s]) for s in maps)
    plain, kept = models.build("cnn", 10, GREY16).eval(), {}
    for name in ("relu1", "relu2"):
        plain.get_submodule(name).register_forward_hook(
            lambda _m, _given, out: kept.update({tuple(out.shape[2:]): out})
        )
    with torch.no_grad(), maps_of(plain) as maps:
        plain(pixels)
    assert list(maps) == [(16, 16), (8, 8)] and all(torch.equal(maps[s], kept[s]) for s in maps)


def test_distillation_brings_the_attention_closer_to_the_teachers_than_fine_tuning_does():
    net, layout = network(), Layout.of(network())
    root = made_root(shard())
    teacher = module_of(net, layout)(layout.flatten(arrays_of(net)))
    root.fit(teacher, 0, local_epochs=5, lr=0.05)

    def apart(state):
        student = module_of(net, layout)(state)
        pixels, _ = inputs_of(shard(), student)
        with torch.no_grad(), maps_of(student) as own, maps_of(teacher.eval()) as theirs:
            student(pixels), teacher(pixels)
            return float(distance(own, theirs))

    start = apart(layout.flatten(arrays_of(net)))
    without, with_it = (apart(repaired(net, beta, epochs=20, lr=0.005)) for beta in (0.0, 100.0))
    assert with_it < without / 4 and with_it < start / 4


def test_with_beta_0_it_is_fine_tuning_to_the_bit():
    net, layout = network(), Layout.of(network())
    tuned = module_of(net, layout)(layout.flatten(arrays_of(net)))
    made_root(shard()).fit(tuned, 1, local_epochs=5, lr=0.05)
    after, wanted = repaired(net, 0.0), layout.flatten(arrays_of(tuned))
    np.testing.assert_array_equal(after.weights, wanted.weights)
    np.testing.assert_array_equal(after.statistics, wanted.statistics)


def test_it_is_the_same_each_time_and_the_teacher_matters():
    net = network()
    once, again, other = repaired(net), repaired(net), repaired(net, teach_lr=0.2)
    np.testing.assert_array_equal(once.weights, again.weights)
    assert (once.weights != other.weights).any()


@pytest.mark.parametrize(
    "layers", [[nn.Flatten(), nn.Linear(16, 2)], [nn.Conv2d(1, 2, 4), nn.Flatten(), nn.Linear(2, 2)]]
)
def test_without_a_map_of_more_than_a_pixel_it_refuses(layers):
    net = nn.Sequential(*layers)
    assert map_sizes(net, IMAGE) == []
    with pytest.raises(RuleError, match="none here gives more than one pixel"):
        repaired(net)
