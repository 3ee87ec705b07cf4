"""Models in files: the shipped checkpoints, ``--weights FILE``, and the model that a run saves.

Read: safetensors, or a PyTorch state dict, the course's checkpoint included (``oleander.learning.foreign_weights``).
Written: safetensors, weights and statistics in float32, no counters.
"""

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch

from oleander.datasets.cifar10 import CIFAR10
from oleander.datasets.data import Dataset
from oleander.datasets.digits import SPACE as DIGITS
from oleander.datasets.space import ImageSpace
from oleander.datasets.toy import TOY
from oleander.learning.foreign_weights import in_words, problems_of, read_tensors
from oleander.learning.parameters import Layout, ModelState, arrays_of, named_arrays
from oleander.models import build, fresh_model, identity
from oleander.settings.steps import short
from oleander.system.errors import UserError
from oleander.system.files import absolute, replace_file
from oleander.system.foreign import refusing

CHECKPOINTS = Path(__file__).parent / "checkpoints"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

SHIPPED = {"cifar10": ("resnet18light", CIFAR10), "digits": ("cnn", DIGITS), "toy": ("resnet18light", TOY)}
"""Name in checkpoints/ → the model and the images that it was trained on: it fits no others."""


@dataclass(frozen=True)
class Start:
    """The model a run starts from."""

    state: ModelState
    origin: str
    """As shown: a shipped checkpoint's name, a file, or fresh."""
    for_want: bool = False
    """Whether the model is fresh for want of a checkpoint, and not because that was asked for."""


def starting_model(model: str, weights: str, dataset: Dataset, layout: Layout, seed: int, norm: str = "batch") -> Start:
    """The starting model of ``--weights``, for ``--model`` with ``--norm``, and its layout.

    Raises:
        UserError: a file that is not there, not a model, or not this model.
    """
    shipped = shipped_checkpoint(model, dataset, norm)
    if weights == "auto" and shipped:
        return Start(_from_file(shipped, called(model, norm), layout), f"the shipped checkpoint {shipped.stem}")
    if weights in ("auto", "fresh"):
        why = (
            ""
            if weights == "fresh"
            else f" (no checkpoint is shipped for {called(model, norm)} on {dataset.name}; --weights FILE gives one)"
        )
        fresh = fresh_model(model, len(dataset.classes), dataset.image, seed, norm)
        return Start(layout.flatten(arrays_of(fresh)), f"a fresh model{why}", for_want=bool(why))
    path = absolute(weights)
    return Start(_from_file(path, called(model, norm), layout), str(path))


def called(model: str, norm: str) -> str:
    """A model in words: by its name, and its norm where that is not the usual one."""
    return short(model) + (" with group norm" if norm == "group" else "")


def shipped_checkpoint(model: str, dataset: Dataset, norm: str = "batch") -> Path | None:
    """The shipped checkpoint of a model on a dataset: its own, and CIFAR-10's for image folders of the same classes and space.

    All of them are of models with batch norm.
    """
    same = dataset.name.startswith("folder:") and dataset.classes == CLASSES
    name = "cifar10" if same else dataset.name
    if SHIPPED.get(name) != (model, dataset.image) or norm != "batch":
        return None
    shipped = CHECKPOINTS / f"{name}.safetensors"
    return shipped if shipped.is_file() else None


def layout_of(model: str, classes: int, image: ImageSpace, norm: str = "batch") -> Layout:
    """The layout of a model for this many classes and these images."""
    return _layout_of(model, identity(model), classes, image, norm)


@functools.cache
def _layout_of(model: str, _identity: str, classes: int, image: ImageSpace, norm: str) -> Layout:
    try:
        with torch.device("meta"):
            return Layout.of(build(model, classes, image, norm))
    except (UserError, NotImplementedError):  # such as one that reads numbers while it is made: there are none on meta
        return Layout.of(fresh_model(model, classes, image, 0, norm))


def save_model(path: Path, layout: Layout, state: ModelState) -> str:
    """Write a model as safetensors; returns the SHA-256 of the file."""
    tensors = {name: torch.from_numpy(array.copy()) for name, array in named_arrays(layout, state).items()}
    data = safetensors.torch.save(tensors)
    replace_file(path, data)
    return hashlib.sha256(data).hexdigest()


def _from_file(path: Path, model: str, layout: Layout) -> ModelState:
    with refusing(f"--weights {path}", "give a safetensors file or a PyTorch state dict, auto or fresh"):
        tensors = read_tensors(path, layout)
        problems = problems_of(tensors, layout)
        if problems:
            raise UserError(f"--weights {path}: not a {model} of this dataset: {in_words(problems, tensors, layout)}")
        return layout.flatten([tensors[name].detach().to(torch.float32).numpy() for name in layout.names])
