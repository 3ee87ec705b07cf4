"""Image spaces for tests, and the project's functions for CIFAR-10's, in which most tests' images are."""

from functools import partial

import attacks
import oleander.learning.weights as weights
from attacks.blend import blend
from attacks.patch import patch
from oleander import models
from oleander.datasets.cifar10 import CIFAR10
from oleander.datasets.space import ImageSpace
from oleander.learning import evaluation, remembered
from oleander.learning.parameters import Layout

GREY16 = ImageSpace(1, 16, mean=(0.3,), std=(0.4,))
GREY28 = ImageSpace(1, 28, mean=(0.1307,), std=(0.3081,))
RGB64 = ImageSpace(3, 64, mean=(0.1, 0.2, 0.3), std=(0.5, 0.4, 0.6))

LINEAR = Layout(("weight", "bias"), ((10, 3072), (10,)), (True, True))
"""Of one layer over CIFAR-10's images."""

attack_of = partial(attacks.attack_of, image=CIFAR10, layout=lambda: LINEAR)
blend, patch = partial(blend, image=CIFAR10), partial(patch, image=CIFAR10)
classifier = partial(evaluation.classifier, image=CIFAR10)
normalise = CIFAR10.normalise
scores_key = partial(remembered.scores_key, model="resnet18light")
starting_model = partial(weights.starting_model, "resnet18light")


def fresh_model(classes: int, seed: int):
    return models.fresh_model("resnet18light", classes, CIFAR10, seed)


def layout_of(classes: int):
    return weights.layout_of("resnet18light", classes, CIFAR10)
