"""ResNet18Light, as defined, and fresh from a seed."""

import torch

from oleander.models.resnet18light import ResNet18Light
from tests.spaces import fresh_model


def test_resnet18light_is_as_defined():
    model = ResNet18Light()
    assert sum(p.numel() for p in model.parameters()) == 2_797_610
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    stages = [model.layer1, model.layer2, model.layer3, model.layer4]
    assert [stage[0].conv1.stride[0] for stage in stages] == [1, 2, 2, 2]
    assert [stage[1].conv2.out_channels for stage in stages] == [32, 64, 128, 256]


def test_fresh_model_is_seeded_and_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    a, b, c = fresh_model(10, 0), fresh_model(10, 0), fresh_model(10, 1)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(a.conv1.weight, b.conv1.weight) and not torch.equal(a.conv1.weight, c.conv1.weight)
