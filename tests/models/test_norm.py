"""--norm group: what is put in the place of batch norms, and what is refused."""

import ast
from pathlib import Path

import pytest
import torch
from torch import nn

from oleander.learning.own_model import check_own, check_smallest_batch
from oleander.learning.parameters import Layout
from oleander.models import build, fresh_model, identity
from oleander.models._norm import group_normed, groups_of
from oleander.settings import outside
from oleander.settings.config import Experiment
from oleander.settings.declared import names_in
from oleander.settings.registry import MODELS, model_name
from oleander.system.errors import UserError
from tests.spaces import CIFAR10, GREY16

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def forgotten():
    yield
    outside.forget()


def test_groups_are_of_16_channels_or_of_the_next_number_that_divides_them():
    channels = [1, 4, 15, 16, 17, 24, 32, 40, 58, 64, 96, 144, 512, 1280]
    assert [c // groups_of(c) for c in channels] == [1, 4, 15, 16, 17, 24, 16, 20, 29, 16, 16, 16, 16, 16]


@pytest.mark.parametrize("name", names_in(MODELS))
def test_every_batch_norm_is_replaced_and_nothing_else(name):
    batch, group = (fresh_model(name, 5, CIFAR10, 0, norm) for norm in ("batch", "group"))
    for (at, one), (same, other) in zip(batch.named_modules(), group.named_modules(), strict=True):
        assert at == same
        if isinstance(one, nn.BatchNorm2d):
            assert type(other) is nn.GroupNorm and (other.num_channels, other.eps) == (one.num_features, one.eps)
        else:
            assert type(one) is type(other)
    assert all(torch.equal(a, b) for a, b in zip(batch.parameters(), group.parameters(), strict=True))


def test_it_normalises_each_image_by_itself_over_groups_of_channels():
    norm, replaced = group_normed(nn.Sequential(nn.BatchNorm2d(32)))
    x = torch.rand(3, 32, 5, 5)
    groups = x.reshape(3, 2, -1)
    by_hand = (groups - groups.mean(-1, keepdim=True)) / (groups.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt()
    assert replaced == 1
    torch.testing.assert_close(norm(x), by_hand.reshape(x.shape))


def test_scale_and_shift_stay_and_one_that_stands_twice_does_so_still():
    shared, bare = nn.BatchNorm2d(16), nn.BatchNorm1d(4, affine=False)
    nn.init.constant_(shared.weight, 3)
    made, replaced = group_normed(nn.Sequential(shared, nn.Sequential(shared), nn.InstanceNorm2d(16), bare))
    assert replaced == 2 and made[0] is made[1][0] and made[0].weight is shared.weight and made[0].bias is shared.bias
    assert isinstance(made[2], nn.InstanceNorm2d) and made[3].weight is None and len(list(made.parameters())) == 2
    assert isinstance(group_normed(nn.BatchNorm2d(16))[0], nn.GroupNorm)


OWN = '''"""A model of one's own."""

import torch.nn as nn

from oleander.datasets.space import ImageSpace


def my_net(classes: int, image: ImageSpace) -> nn.Module:
    """One convolution."""
    return nn.Sequential(
        nn.Conv2d(image.channels, 4, 3), NORM nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes)
    )
'''


def own(tmp_path, norm):
    file = tmp_path / "my_net.py"
    file.write_text(OWN.replace("NORM", norm))
    model_name(Experiment(model=str(file)))
    return str(file)


def test_a_model_of_ones_own_gets_it_too(tmp_path):
    name = own(tmp_path, "nn.BatchNorm2d(4),")
    check_own(name, 3, CIFAR10, "group")
    assert Layout.of(build(name, 3, CIFAR10, "group")).statistic_count == 0
    assert Layout.of(build(name, 3, CIFAR10)).statistic_count == 8


def test_a_model_without_batch_norm_is_refused(tmp_path):
    for name in (own(tmp_path, ""), "torchvision:alexnet"):
        with pytest.raises(
            UserError, match=r"^--norm group: --model .* has no batch norm that it could stand for; known: batch$"
        ):
            build(name, 3, CIFAR10, "group")


def test_a_models_identity_tells_its_norm():
    assert identity("cnn") == "cnn" and identity("cnn", "group") == "cnn@group norm"


def test_a_batch_of_one_image_that_batch_norm_cannot_take_is_refused_before_anything_starts():
    name, asked = "torchvision:mobilenet_v3_small", "--samples-per-client 9 with --batch-size 4"
    check_smallest_batch(name, 3, GREY16, "batch", 2, asked)
    check_smallest_batch(name, 3, GREY16, "group", 1, asked)
    with pytest.raises(UserError, match=f"{asked}: a batch is of one image.*--norm group"):
        check_smallest_batch(name, 3, GREY16, "batch", 1, asked)


ARGUMENTS = {"build": 4, "layout_of": 4, "fresh_model": 5, "starting_model": 6, "shipped_checkpoint": 3, "identity": 2}
"""Functions that take a norm, and how many arguments they have with it."""


def test_the_engine_nowhere_forgets_the_norm_of_a_run():
    for path in (*ROOT.glob("oleander/**/*.py"), *ROOT.glob("clients/*.py")):
        for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
            name = getattr(call.func, "id", "")
            if name in ARGUMENTS and (name, path.name) != ("identity", "weights.py"):  # there the norm stands beside it
                assert len(call.args) + len(call.keywords) == ARGUMENTS[name], f"{path}:{call.lineno}"
