"""Every file of oleander/models/ keeps the contract of models, in any image space."""

import numpy as np
import pytest
import torch

from oleander import models
from oleander.learning.evaluation import classifier
from oleander.learning.parameters import COUNTER, VARIANCE
from oleander.learning.weights import layout_of
from oleander.settings.config import Experiment
from oleander.settings.declared import names_in
from oleander.settings.registry import MODELS, find, model_name
from oleander.system.errors import UserError
from tests.spaces import CIFAR10, GREY16, RGB64

SPACES = pytest.mark.parametrize("image", [GREY16, CIFAR10, RGB64], ids=["grey16", "cifar10", "rgb64"])


def moved(name, image):
    """A model with statistics of its own."""
    model = models.fresh_model(name, 7, image, 3)
    with torch.no_grad():
        for _ in range(2):
            model(image.normalise(torch.rand(8, *image.shape, generator=torch.Generator().manual_seed(1))))
    return model.eval()


def test_the_walk_finds_the_protocols_model_and_lists_it():
    assert Experiment().model in find(MODELS) and all(plugin.summary for plugin in find(MODELS).values())


@pytest.mark.parametrize("name", names_in(MODELS))
@SPACES
def test_a_classifier_answers_as_the_plain_model_does(name, image):
    model, pixels = moved(name, image), torch.rand(4, *image.shape)
    with torch.inference_mode():
        plain = model(image.normalise(pixels))
        assert plain.shape == (4, 7)
        torch.testing.assert_close(classifier(model, "fp32", image)(pixels), plain, rtol=1e-3, atol=1e-3)
        assert classifier(model, "bf16", image)(pixels).dtype == torch.float32


@pytest.mark.parametrize("name", names_in(MODELS))
@SPACES
def test_its_numbers_are_weights_and_batch_norms_statistics_drawn_from_the_seed(name, image):
    one, same, other = (models.fresh_model(name, 7, image, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not all(torch.equal(one[key], other[key]) for key in one)
    layout = layout_of(name, 7, image)
    buffers = [n for n, weight in zip(layout.names, layout.is_weight, strict=True) if not weight]
    assert all(n.endswith((VARIANCE, "running_mean")) for n in buffers)
    assert set(layout.names) == {key for key in one if not key.endswith(COUNTER)}
    assert np.sum(layout.sizes) == layout.weight_count + layout.statistic_count


def test_an_unknown_model_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match=r"--model resnet19: unknown; known: .*resnet18light"):
        model_name(Experiment(model="resnet19"))
