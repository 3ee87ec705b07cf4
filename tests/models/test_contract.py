"""Every file of oleander/models/ keeps the contract of models, in any image space and with either norm."""

import numpy as np
import pytest
import torch
from torch import nn

from oleander import models
from oleander.learning.evaluation import classifier
from oleander.learning.parameters import COUNTER, VARIANCE
from oleander.learning.weights import layout_of
from oleander.settings.config import Experiment
from oleander.settings.declared import names_in
from oleander.settings.registry import MODELS, find, model_name
from oleander.system.errors import UserError
from tests.spaces import CIFAR10, GREY16, GREY28, RGB64

IDS = ["grey16", "grey28", "cifar10", "rgb64"]
SPACES = pytest.mark.parametrize("image", [GREY16, GREY28, CIFAR10, RGB64], ids=IDS)
NAMES = pytest.mark.parametrize("name", names_in(MODELS))


def moved(name, image, norm):
    """A model with statistics of its own, if it has any."""
    model = models.fresh_model(name, 7, image, 3, norm)
    with torch.no_grad():
        model(image.normalise(torch.rand(3, *image.shape, generator=torch.Generator().manual_seed(1))))
    return model.eval()


def test_the_walk_finds_the_protocols_model_and_lists_it():
    assert Experiment().model in find(MODELS) and all(plugin.summary for plugin in find(MODELS).values())


@NAMES
@pytest.mark.parametrize(
    ("image", "norm"),
    [(GREY16, "batch"), (GREY28, "batch"), (CIFAR10, "batch"), (RGB64, "batch"), (GREY16, "group"), (RGB64, "group")],
    ids=[*IDS, "group-grey16", "group-rgb64"],
)
def test_a_classifier_answers_as_the_plain_model_does(name, image, norm):
    model, pixels = moved(name, image, norm), torch.rand(2, *image.shape)
    with torch.inference_mode():
        plain = model(image.normalise(pixels))
        assert plain.shape == (2, 7)
        torch.testing.assert_close(classifier(model, "fp32", image)(pixels), plain, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("name", "norm"), [(name, "batch") for name in names_in(MODELS)] + [("cnn", "group")])
def test_in_bf16_a_classifier_answers_in_float32_and_much_the_same(name, norm):
    model, pixels = moved(name, GREY16, norm), torch.rand(2, *GREY16.shape)
    with torch.inference_mode():
        plain, rounded = (classifier(model, precision, GREY16)(pixels) for precision in ("fp32", "bf16"))
    assert rounded.dtype == torch.float32
    assert float((rounded - plain).norm() / plain.norm()) < 0.1


@NAMES
@SPACES
def test_its_numbers_are_weights_and_batch_norms_statistics(name, image):
    layout, state = layout_of(name, 7, image), models.build(name, 7, image).state_dict()
    buffers = [n for n, weight in zip(layout.names, layout.is_weight, strict=True) if not weight]
    assert all(n.endswith((VARIANCE, "running_mean")) for n in buffers)
    assert set(layout.names) == {key for key in state if not key.endswith(COUNTER)}
    assert np.sum(layout.sizes) == layout.weight_count + layout.statistic_count


@NAMES
def test_its_weights_are_drawn_from_the_seed(name):
    one, same, other = (models.fresh_model(name, 7, GREY16, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not all(torch.equal(one[key], other[key]) for key in one)


@NAMES
@pytest.mark.parametrize("image", [GREY16, GREY28], ids=IDS[:2])
def test_it_trains_on_a_batch_of_one_image(name, image):
    model = models.fresh_model(name, 7, image, 0).train()
    loss = model(image.normalise(torch.rand(1, *image.shape))).sum()
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@NAMES
def test_its_last_layer_is_linear_and_the_output_layer_of_its_layout(name):
    layout = layout_of(name, 7, CIFAR10)
    heads = [n for n, m in models.build(name, 7, CIFAR10).named_modules() if isinstance(m, nn.Linear)]
    last = layout.output_layer()
    weights = [(n, s) for n, s, w in zip(layout.names, layout.sizes, layout.is_weight, strict=True) if w]
    assert [n for n, _ in weights[-2:]] == [f"{heads[-1]}.weight", f"{heads[-1]}.bias"]
    assert (last.start, last.stop) == (layout.weight_count - sum(s for _, s in weights[-2:]), layout.weight_count)


@NAMES
def test_with_group_norm_it_has_the_same_weights_and_no_statistics(name):
    batch, group = (layout_of(name, 7, GREY16, norm) for norm in ("batch", "group"))
    weights = [(n, s) for n, s, w in zip(batch.names, batch.shapes, batch.is_weight, strict=True) if w]
    assert list(zip(group.names, group.shapes, strict=True)) == weights
    assert batch.statistic_count > 0 and group.statistic_count == 0 and len(group.variances) == 0


def test_an_unknown_model_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match=r"--model resnet19: unknown; known: .*resnet18light.*torchvision:NAME"):
        model_name(Experiment(model="resnet19"))
