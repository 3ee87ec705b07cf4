"""Models in files: the shipped checkpoints, ``--weights FILE``, and the model that a run saves.

Read: safetensors, or a PyTorch state dict (``weights_only=True``: no code runs), the course's checkpoint included.
Written: safetensors, weights and statistics in float32, no counters.
"""

import functools
import hashlib
import io
import pickletools
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from oleander.datasets.cifar10 import CIFAR10
from oleander.datasets.data import Dataset
from oleander.datasets.digits import SPACE as DIGITS
from oleander.datasets.space import ImageSpace
from oleander.datasets.toy import TOY
from oleander.learning.parameters import COUNTER, Layout, ModelState, arrays_of, named_arrays
from oleander.models import build, fresh_model, identity
from oleander.settings.steps import short
from oleander.system.errors import UserError
from oleander.system.files import absolute, replace_file
from oleander.system.foreign import GIB, check_unpacked, parsed_json, plain, read_bytes, refusing, shortened

CHECKPOINTS = Path(__file__).parent / "checkpoints"
MOST_BYTES = GIB
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
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
        tensors = _read(path)
        problems = _problems(tensors, layout)
        if problems:
            more = f" and {len(problems) - 4} more" if len(problems) > 4 else ""
            said = "; ".join(shortened(plain(problem), 200) for problem in problems[:4])
            raise UserError(f"--weights {path}: not a {model} of this dataset: {said}{more}")
        return layout.flatten([tensors[name].detach().to(torch.float32).numpy() for name in layout.names])


def _problems(tensors: Mapping[str, Tensor], layout: Layout) -> list[str]:
    """Why these are not the tensors of this model; shapes and kinds before any values are looked at."""
    wanted = dict(zip(layout.names, layout.shapes, strict=True))
    found = {name: tensor for name, tensor in tensors.items() if not name.endswith(COUNTER)}
    problems = [f"missing {name}" for name in wanted if name not in found]
    problems += [f"unexpected {name}" for name in found if name not in wanted]
    for name, shape in wanted.items():
        if name not in found:
            continue
        tensor = found[name]
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_nested or tensor.device.type != "cpu":
            problems.append(f"{name} is not a dense tensor of numbers")
        elif tuple(tensor.shape) != shape:
            problems.append(f"{name} is {tuple(tensor.shape)}, not {shape}")
        elif tensor.dtype not in FLOATS or not bool(tensor.to(torch.float32).isfinite().all()):
            problems.append(f"{name} has values that are not finite numbers")
    return problems


def _read(path: Path) -> Mapping[str, Tensor]:
    """Name → tensor of a safetensors file or a PyTorch state dict, of which nothing is unpacked that is larger than the file."""
    content = read_bytes(path, MOST_BYTES)
    if content[8:9] == b"{":  # a safetensors file: 8 bytes of length, then JSON
        parsed_json(content[8 : 8 + int.from_bytes(content[:8], "little")])  # no tensor twice
        return safetensors.torch.load(content)
    return _named(_state_dict(_unpickled(content)))


def _unpickled(content: bytes) -> Any:
    """What a PyTorch file holds: a ZIP archive with a pickle and raw numbers; before 1.6, pickles in a row.

    ``weights_only`` lets no code run, but lets a few bytes ask for any amount of memory. So the archive's members must be
    stored as they are, and the pickle may name what a state dict of plain tensors needs, and nothing else.
    """
    if not zipfile.is_zipfile(io.BytesIO(content)):
        _check_pickles(content, pickles=5)
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    check_unpacked(content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
        if len(pickles) != 1:
            raise ValueError(f"the archive has {len(pickles)} data.pkl")
        _check_pickles(archive.read(pickles[0]), pickles=1)
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _check_pickles(content: bytes, pickles: int) -> None:
    """Refuse pickles that name anything but what plain tensors are made of."""
    with io.BytesIO(content) as opened:
        for _ in range(pickles):
            for opcode, argument, _at in pickletools.genops(opened):
                if opcode.name in ("STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4"):
                    raise ValueError(f"its pickle has the operation {opcode.name}")
                if opcode.name == "GLOBAL":
                    name = str(argument).replace(" ", ".")
                    if name not in PLAIN and not re.fullmatch(r"torch\.\w+Storage", name):
                        raise ValueError(f"its pickle names {name}, which no state dict of plain tensors needs")
            if opened.tell() >= len(content):
                return


PLAIN = {
    "collections.OrderedDict", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_parameter", "torch.Size",
}  # fmt: skip


def _state_dict(content: Any) -> Mapping[Any, Tensor]:
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(isinstance(t, Tensor) for t in content.values()) or not content:
        raise ValueError(f"holds a {type(content).__name__}, not a state dict of tensors")
    return content


def _named(tensors: Mapping[Any, Tensor]) -> Mapping[str, Tensor]:
    """By their names in the model, without what data parallel training puts before them."""
    found = {str(name).removeprefix("module."): tensor for name, tensor in tensors.items()}
    if len(found) != len(tensors):
        raise ValueError("a tensor is there twice, with and without module. before its name")
    return found
