"""A training step as one CUDA graph: the card is told once what a step is, not kernel by kernel in each (``--cuda-graphs``).

Eagerly a step of ResNet18Light waits for Python: 13 ms, of which the kernels take 5.7 (``docs/log.md``). A graph's addresses and
numbers are fixed when it is captured: the model's tensors, a batch's, the optimiser's, and the settings. So it is kept with its
model, and captured again where one of them is another. It is for steps in which nothing is drawn and that no attack changes.

Written without a GPU at hand, and so far run on none: the tests play the card.
"""

import weakref
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

Step = Callable[[Tensor, Tensor], Tensor]
"""Normalised images (b, c, h, w) and labels (b,) → the loss before the step, whose gradients have moved the model."""
WARM_UP = 3
"""Steps before a capture, as PyTorch's documentation has them: kernels are chosen and loaded in them."""


@dataclass(frozen=True)
class Captured:
    """A step that is replayed on tensors of its own."""

    inputs: Tensor
    """(b, c, h, w)"""
    labels: Tensor
    """(b,)"""
    replay: Callable[[], None]
    loss: Tensor
    """() of the last replay."""

    def __call__(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Do the step on this batch; the loss is overwritten by the next one."""
        self.inputs.copy_(inputs)
        self.labels.copy_(labels)
        self.replay()
        return self.loss


_kept: weakref.WeakKeyDictionary[nn.Module, tuple[Hashable, Captured]] = weakref.WeakKeyDictionary()
"""A process trains in one model, for all its clients."""
_momenta: weakref.WeakKeyDictionary[nn.Module, list[Tensor]] = weakref.WeakKeyDictionary()


def captured(
    model: nn.Module, step: Step, moved: list[Tensor], inputs: Tensor, labels: Tensor, key: Hashable
) -> Captured:
    """This step as a graph, or the one that was captured before.

    Args:
        model: what is trained.
        step: eager; what it does to ``moved`` while it is captured is undone.
        moved: all tensors that a step changes in place.
        inputs: a first batch (b, c, h, w).
        labels: its labels (b,).
        key: what else is fixed in the graph, such as the learning rate.

    Raises:
        ValueError: no GPU.
    """
    key = (key, inputs.shape, inputs.dtype, *(tensor.data_ptr() for tensor in moved))
    if model not in _kept or _kept[model][0] != key:
        if not torch.cuda.is_available():
            raise ValueError("--cuda-graphs, but this client has no GPU")
        before = [tensor.clone() for tensor in moved]
        inputs, labels = inputs.clone(), labels.clone()
        replay, loss = _recorded(step, inputs, labels)
        with torch.no_grad():
            for tensor, value in zip(moved, before, strict=True):
                tensor.copy_(value)
        _kept[model] = key, Captured(inputs, labels, replay, loss)
    return _kept[model][1]


def _recorded(step: Step, inputs: Tensor, labels: Tensor) -> tuple[Callable[[], None], Tensor]:
    """The step as a graph on these tensors: what does it again, and where it leaves its loss."""
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(WARM_UP):
            step(inputs, labels)
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step(inputs, labels)
    return graph.replay, loss


def momenta_of(model: nn.Module) -> list[Tensor]:
    """Zeros for an optimiser's momenta, one for each parameter, in the same places for as long as the model lives."""
    if model not in _momenta:
        _momenta[model] = [torch.zeros_like(parameter) for parameter in model.parameters()]
    for momentum in _momenta[model]:
        momentum.zero_()
    return _momenta[model]


def draws(model: nn.Module) -> bool:
    """Whether its training steps draw random numbers, which a capture would draw too many of."""
    return any(isinstance(part, _DropoutNd) and part.p > 0 for part in model.modules())
