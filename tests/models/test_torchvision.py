"""--model torchvision:NAME: what is fitted to small images, and what is refused."""

import pytest
import torch
import torchvision
from torch import nn

from oleander.datasets.space import ImageSpace
from oleander.learning.own_model import check_own
from oleander.learning.weights import layout_of
from oleander.models import build, fresh_model, identity
from oleander.models._torchvision import ANY_SIDE
from oleander.settings.cli import parse
from oleander.settings.config import Experiment
from oleander.settings.registry import model_name, torchvision_models
from oleander.system.errors import UserError
from tests.spaces import CIFAR10, GREY16, GREY28, RGB64


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def on_meta(name, image, classes=10):
    """A model without numbers, to be counted and passed shapes through."""
    with torch.device("meta"):
        return build(name, classes, image)


def test_its_names_are_torchvisions():
    assert {"resnet18", "vgg16", "mobilenet_v3_small", "densenet121", "vit_b_16"} <= set(torchvision_models())
    assert set(torchvision_models()) == set(torchvision.models.list_models(module=torchvision.models))


def test_a_large_rgb_image_gets_the_model_as_it_is():
    image = ImageSpace(3, 96, CIFAR10.mean, CIFAR10.std)
    for name in ("resnet34", "mobilenet_v3_small", "densenet121", "shufflenet_v2_x0_5"):
        made, theirs = on_meta(f"torchvision:{name}", image), torchvision.models.get_model(name, num_classes=10)
        assert parameters(made) == parameters(theirs)
        assert [str(m) for m in made.children()] == [str(m) for m in theirs.children()]


def test_a_small_one_keeps_its_side_in_a_resnets_stem():
    model = on_meta("torchvision:resnet18", CIFAR10)
    assert (model.conv1.kernel_size, model.conv1.stride, model.conv1.padding) == ((3, 3), (1, 1), (1, 1))
    assert (
        isinstance(model.maxpool, nn.Identity)
        and parameters(model) == parameters(build("resnet18", 10, CIFAR10)) == 11_173_962
    )
    assert model.layer1(model.conv1(torch.zeros(1, 3, 32, 32, device="meta"))).shape == (1, 64, 32, 32)


@pytest.mark.parametrize("name", ["squeezenet1_1"])
def test_a_grey_image_is_seen_as_one_that_is_the_same_in_three_colours(name):
    grey, colour = (ImageSpace(c, 96, (0.5,) * c, (0.5,) * c) for c in (1, 3))
    one, three = (fresh_model(f"torchvision:{name}", 4, image, 0).eval() for image in (grey, colour))
    pixels = torch.rand(2, 1, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(one(pixels), three(pixels.repeat(1, 3, 1, 1)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ANY_SIDE)
@pytest.mark.parametrize("image", [GREY16, GREY28], ids=["grey16", "grey28"])
def test_families_that_are_said_to_fit_do_train_on_small_images(family, image):
    name = next(name for name in torchvision_models() if name.startswith(family))
    model = on_meta(f"torchvision:{name}", image).train()
    assert model(torch.zeros(1, *image.shape, device="meta")).shape == (1, 10)


@pytest.mark.parametrize("name", ["vgg11_bn", "alexnet"])
def test_vgg_and_alexnet_average_before_their_classifiers(name):
    model = on_meta(f"torchvision:{name}", RGB64)
    channels = [m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d)][-1]
    first = next(m for m in model.modules() if isinstance(m, nn.Linear))
    assert model.avgpool.output_size == 1 and first.in_features == channels
    assert model(torch.zeros(2, *RGB64.shape, device="meta")).shape == (2, 10)


def test_no_model_pools_to_more_than_one_pixel_for_which_cuda_has_no_deterministic_gradient():
    for name in ("vgg16", "alexnet", "resnet50", "mobilenet_v3_large", "efficientnet_b0"):
        pools = [m for m in on_meta(f"torchvision:{name}", RGB64).modules() if isinstance(m, nn.AdaptiveAvgPool2d)]
        assert pools and all(m.output_size in (1, (1, 1)) for m in pools)


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5"])
def test_a_fitted_one_keeps_the_contract_of_models(name):
    check_own(f"torchvision:{name}", 3, GREY16)
    layout = layout_of(f"torchvision:{name}", 3, GREY16)
    assert layout.weight_count == parameters(build(f"torchvision:{name}", 3, GREY16))


def test_one_that_reads_numbers_while_it_is_made_has_a_layout_too():
    name = "torchvision:regnet_x_400mf"
    with pytest.raises(NotImplementedError):
        on_meta(name, CIFAR10)
    assert layout_of(name, 3, CIFAR10).weight_count == parameters(build(name, 3, CIFAR10))


@pytest.mark.parametrize(
    ("name", "image", "why"),
    [
        ("alexnet", CIFAR10, r"cannot be fitted to images \(3, 32, 32\)"),
        ("vit_b_16", GREY28, "Input shape indivisible by patch size"),
        ("swin_t", CIFAR10, "is a buffer that is no batch norm's"),
    ],
)
def test_what_cannot_take_the_images_is_refused_with_what_can(name, image, why):
    with pytest.raises(UserError, match=why) as error:
        check_own(f"torchvision:{name}", 3, image)
    said = str(error.value)
    assert said.startswith(f"--model torchvision:{name}: ") and "\n" not in said
    assert "known to fit: cnn, " in said and "torchvision: densenet…" in said


def test_an_unknown_name_is_refused_with_torchvisions_and_nothing_is_looked_for_elsewhere():
    for name in ("resnet19", "", "ResNet18", "./x.py", "resnet18.py", "quantization.resnet18"):
        with pytest.raises(
            UserError, match=r"--model torchvision:.*: unknown; torchvision has alexnet, .*wide_resnet50_2"
        ) as e:
            model_name(Experiment(model=f"torchvision:{name}"))
        assert "\n" not in str(e.value)


def test_it_is_a_setting_like_any_other():
    experiment = parse(["--model", "torchvision:resnet34"])
    assert experiment.model == "torchvision:resnet34" and not experiment.own
    assert Experiment.from_json(experiment.to_json()) == experiment
    assert identity(experiment.model) == "torchvision:resnet34"
