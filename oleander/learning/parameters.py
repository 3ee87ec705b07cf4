"""A model as numbers: its tensors in clients, two flat vectors on the wire and in the maths, and the map between them.

Weights (what is trained) and statistics (batch-norm running means and variances) are kept apart, and the counters
``num_batches_tracked`` are never sent: ``docs/definitions.md``, "What is in an update".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

FloatArray = NDArray[np.float32]
COUNTER = "num_batches_tracked"
VARIANCE = "running_var"


@dataclass(frozen=True)
class ModelState:
    """A model's numbers: weights (d,) and statistics (s,), float32.

    So it is sent, too: Flower makes a request of its own for each array, and ResNet18Light has 102 tensors.
    """

    weights: FloatArray
    statistics: FloatArray

    def sent(self) -> list[FloatArray]:
        """The arrays of a message, in the order of the fields."""
        return [self.weights, self.statistics]


@dataclass(frozen=True)
class Layout:
    """Name, shape and kind of each tensor that is sent, in the order of the model's state dict."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    is_weight: tuple[bool, ...]

    @classmethod
    def of(cls, model: nn.Module) -> Self:
        """The layout of this model; buffers other than batch-norm's are not expected and count as statistics."""
        trained = {name for name, _ in model.named_parameters()}
        tensors = {name: t for name, t in model.state_dict().items() if not name.endswith(COUNTER)}
        return cls(
            tuple(tensors), tuple(tuple(t.shape) for t in tensors.values()), tuple(n in trained for n in tensors)
        )

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Numbers in each tensor."""
        return tuple(int(np.prod(shape)) for shape in self.shapes)

    @cached_property
    def weight_count(self) -> int:
        """d, the numbers in all weights."""
        return sum(size for size, weight in zip(self.sizes, self.is_weight, strict=True) if weight)

    @cached_property
    def statistic_count(self) -> int:
        """s, the numbers in all statistics."""
        return sum(self.sizes) - self.weight_count

    @cached_property
    def variances(self) -> NDArray[np.bool_]:
        """(s,) true where a statistic is a running variance."""
        parts = [
            np.full(size, name.endswith(VARIANCE))
            for name, size, weight in zip(self.names, self.sizes, self.is_weight, strict=True)
            if not weight
        ]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=bool)

    def tensor_at(self, position: int, *, weight: bool) -> str:
        """Name of the tensor to which this number among all weights (or among all statistics) belongs."""
        names = [name for name, w in zip(self.names, self.is_weight, strict=True) if w == weight]
        sizes = [size for size, w in zip(self.sizes, self.is_weight, strict=True) if w == weight]
        return names[int(np.searchsorted(np.cumsum(sizes), position, side="right"))]

    def output_layer(self) -> slice:
        """Where the last layer's numbers (its weight and bias) are among the weights: a classifier's output layer."""
        weights = [(n, size) for n, size, weight in zip(self.names, self.sizes, self.is_weight, strict=True) if weight]
        last = weights[-1][0].rpartition(".")[0]
        own = sum(size for name, size in weights if name.rpartition(".")[0] == last)
        return slice(self.weight_count - own, self.weight_count)

    def flatten(self, arrays: Sequence[FloatArray]) -> ModelState:
        """Tensors in this layout → flat vectors (copies)."""
        vectors = {True: np.empty(self.weight_count, np.float32), False: np.empty(self.statistic_count, np.float32)}
        at = {True: 0, False: 0}
        for array, size, weight in zip(arrays, self.sizes, self.is_weight, strict=True):
            vectors[weight][at[weight] : at[weight] + size] = array.reshape(-1)
            at[weight] += size
        return ModelState(vectors[True], vectors[False])

    def unflatten(self, state: ModelState) -> list[FloatArray]:
        """Flat vectors → tensors in this layout (views of the vectors)."""
        arrays = []
        at = {True: 0, False: 0}
        for shape, size, weight in zip(self.shapes, self.sizes, self.is_weight, strict=True):
            source = state.weights if weight else state.statistics
            arrays.append(source[at[weight] : at[weight] + size].reshape(shape))
            at[weight] += size
        return arrays


def arrays_of(model: nn.Module) -> list[FloatArray]:
    """The model's tensors as they are sent (copies on the CPU)."""
    state = model.state_dict()
    return [
        t.detach().cpu().contiguous().numpy().copy() for name, t in state.items() if not name.endswith(COUNTER)
    ]  # the layout's order


def load_arrays(model: nn.Module, arrays: Sequence[FloatArray]) -> None:
    """Copy sent tensors into the model; the counters restart at 0."""
    state = model.state_dict()
    names = [name for name in state if not name.endswith(COUNTER)]
    with torch.no_grad():
        for name, array in zip(names, arrays, strict=True):
            state[name].copy_(torch.from_numpy(np.asarray(array)))
        for name in state.keys() - set(names):
            state[name].zero_()


def named_arrays(layout: Layout, state: ModelState) -> Mapping[str, FloatArray]:
    """Name → tensor of a model's state, for saving."""
    return dict(zip(layout.names, layout.unflatten(state), strict=True))
