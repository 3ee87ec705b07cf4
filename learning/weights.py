"""Models in files: the shipped checkpoints, ``--weights FILE``, and the model that a run saves.

Read: safetensors, or a PyTorch state dict (``weights_only=True``: no code runs), the course's checkpoint included.
Written: safetensors, weights and statistics in float32, no counters.
"""

import hashlib
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from experiment.errors import UserError
from experiment.files import absolute, replace_file
from learning.data import Dataset
from learning.parameters import COUNTER, Layout, ModelState, arrays_of, named_arrays
from learning.resnet import ResNet18Light, fresh_model

CHECKPOINTS = Path(__file__).parent / "checkpoints"
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class Start:
    """The model a run starts from."""

    state: ModelState
    origin: str
    """As shown: a shipped checkpoint's name, a file, or fresh."""
    for_want: bool = False
    """Whether the model is fresh for want of a checkpoint, and not because that was asked for."""


def starting_model(weights: str, dataset: Dataset, layout: Layout, seed: int) -> Start:
    """The starting model of ``--weights``.

    Raises:
        UserError: a file that is not there, not a model, or not this model.
    """
    shipped = shipped_checkpoint(dataset)
    if weights == "auto" and shipped:
        return Start(_from_file(shipped, layout), f"the shipped checkpoint {shipped.stem}")
    if weights in ("auto", "fresh"):
        why = "" if weights == "fresh" else f" (no checkpoint is shipped for {dataset.name}; --weights FILE gives one)"
        model = fresh_model(len(dataset.classes), seed)
        return Start(layout.flatten(arrays_of(model)), f"a fresh model{why}", for_want=bool(why))
    path = absolute(weights)
    return Start(_from_file(path, layout), str(path))


def shipped_checkpoint(dataset: Dataset) -> Path | None:
    """The shipped checkpoint of a dataset: its own, and CIFAR-10's for image folders of the same classes."""
    same = dataset.name.startswith("folder:") and dataset.classes == CIFAR10
    shipped = CHECKPOINTS / f"{'cifar10' if same else dataset.name}.safetensors"
    return shipped if shipped.is_file() else None


def layout_of(num_classes: int) -> Layout:
    """The layout of a ResNet18Light for this many classes."""
    with torch.device("meta"):
        return Layout.of(ResNet18Light(num_classes))


def save_model(path: Path, layout: Layout, state: ModelState) -> str:
    """Write a model as safetensors; returns the SHA-256 of the file."""
    tensors = {name: torch.from_numpy(array.copy()) for name, array in named_arrays(layout, state).items()}
    data = safetensors.torch.save(tensors)
    replace_file(path, data)
    return hashlib.sha256(data).hexdigest()


def _from_file(path: Path, layout: Layout) -> ModelState:
    tensors = _read(path)
    wanted = dict(zip(layout.names, layout.shapes, strict=True))
    found = {name: tensor for name, tensor in tensors.items() if not name.endswith(COUNTER)}
    problems = [f"missing {name}" for name in wanted if name not in found]
    problems += [f"unexpected {name}" for name in found if name not in wanted]
    problems += [
        f"{name} is {tuple(found[name].shape)}, not {shape}"
        for name, shape in wanted.items()
        if name in found and tuple(found[name].shape) != shape
    ]
    problems += [
        f"{name} has values that are not finite numbers"
        for name in wanted
        if name in found and not (found[name].is_floating_point() and bool(found[name].isfinite().all()))
    ]
    if problems:
        more = f" and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise UserError(f"--weights {path}: not a ResNet18Light of this dataset: {'; '.join(problems[:4])}{more}")
    return layout.flatten([found[name].detach().to(torch.float32).numpy() for name in layout.names])


def _read(path: Path) -> Mapping[str, Tensor]:
    """Name → tensor of a safetensors file or a PyTorch state dict."""
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise UserError(f"--weights {path}: {error.strerror}; give a file, auto or fresh") from None
    try:
        if head[8:9] == b"{":  # a safetensors file: 8 bytes of length, then JSON
            return safetensors.torch.load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise UserError(f"--weights {path}: neither safetensors nor a PyTorch state dict: {reason}") from None
    return _state_dict(content, path)


def _state_dict(content: Any, path: Path) -> Mapping[str, Tensor]:
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(isinstance(t, Tensor) for t in content.values()) or not content:
        raise UserError(f"--weights {path}: holds a {type(content).__name__}, not a state dict of tensors")
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}
