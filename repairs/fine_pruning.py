"""Fine-pruning: remove the channels of the last convolution that clean images hardly activate, then fine-tune.

Liu, Dolan-Gavitt, Garg 2018, "Fine-Pruning: Defending Against Backdooring Attacks on Deep Neural Networks" (RAID; arXiv 1805.12185).
A backdoor sits in neurons that clean images leave dormant. The channels of the last convolution are removed by rising mean activation
on clean images for as long as the accuracy on them has not fallen by more than a bound; the rest is fine-tuned. The bound of 0.04 is
from memory of the paper, which prunes until the accuracy has fallen by 4 points.

What we add where the paper's plain networks leave it open: an activation is what a ReLU leaves of the convolution's output
(normalised where a norm stands behind it), before any shortcut is added. A removed channel gives 0 and is held there while the rest
is fine-tuned. A shortcut goes on past it: in a ResNet such a channel loses its last block's part alone. Where there are more than 64
channels, they are removed in 64 steps. Accuracy and activations are those of the root set, on which the model is then fine-tuned as
by ``finetune``.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from oleander.datasets.space import ImageSpace
from oleander.learning.parameters import Layout, ModelState, arrays_of
from oleander.learning.root import Root
from oleander.learning.training import Hooks, Tensors
from oleander.settings.ranges import Rate
from oleander.system.display import here
from repairs._layers import Convolution, inputs_of, last_convolution
from strategies import Modules, RuleError

STEPS = 64
"""In at most so many the channels are removed: each costs a pass over the root set."""
BATCH = 100


def fine_pruning(
    model: ModelState, *, root: Root, layout: Layout, module: Modules, image: ImageSpace,
    finetune_epochs: int, finetune_lr: float, fine_pruning_drop: Rate = 0.04,
) -> ModelState:  # fmt: skip
    """Remove the last convolution's channels that clean images activate least, then fine-tune (Liu et al. 2018).

    Args:
        model: the global model after the last round; left as it is.
        root: the server's clean images.
        layout: which tensor the numbers belong to.
        module: makes the network.
        image: what images are.
        finetune_epochs: passes over those images, as finetune's.
        finetune_lr: learning rate, as finetune's.
        fine_pruning_drop: By how much the accuracy on the root set may fall while channels are removed, as a share (0 to 1).

    Raises:
        RuleError: a model that has no convolution in front of its output layer.
    """
    net = module(model)
    last = last_convolution(net, image)
    if last is None:
        raise RuleError("fine_pruning removes channels of the last convolution before the output layer; there is none")
    removed = _prune(net, last, *inputs_of(root.shard, net), fine_pruning_drop)
    own = [i for i, parameter in enumerate(net.parameters()) if any(parameter is p for p in last.own)]

    def held(weights: Tensors) -> Tensors:
        return [_without(w, removed) if i in own else w for i, w in enumerate(weights)]

    root.fit(net, 0, [Hooks(weights=held)], local_epochs=finetune_epochs, lr=finetune_lr)
    return layout.flatten(arrays_of(net))


def _prune(net: nn.Module, last: Convolution, images: Tensor, labels: Tensor, drop: float) -> NDArray[np.intp]:
    """Remove channels in place until one more would let the accuracy fall by more than ``drop``; which they are."""
    activations, correct = _examined(net, last, images, labels)
    least = correct - drop * len(labels) - 1e-9
    order = np.argsort(activations, kind="stable")
    whole = [parameter.detach().clone() for parameter in last.own]
    bounds = np.unique(np.linspace(0, len(order), min(STEPS, len(order)) + 1).astype(int))
    removed, progress = order[:0], here()
    for count in bounds[1:].tolist():
        progress.at(count, len(order))
        _put(last, whole, order[:count])
        if _examined(net, last, images, labels)[1] < least:
            break
        removed = order[:count]
    _put(last, whole, removed)
    return removed


@torch.no_grad()
def _examined(net: nn.Module, last: Convolution, images: Tensor, labels: Tensor) -> tuple[NDArray[np.float64], int]:
    """Of each channel the mean activation (c,); and how many images are classified as their class."""
    sums: list[Tensor] = []

    def note(_layer: nn.Module, _given: object, out: Tensor) -> None:
        sums.append(F.relu(out).mean(dim=(2, 3), dtype=torch.float64).sum(dim=0))  # (c,)

    handle = last.end.register_forward_hook(note)
    try:
        correct = sum(
            int((net.eval()(pixels).argmax(dim=1) == truth).sum())
            for pixels, truth in zip(images.split(BATCH), labels.split(BATCH), strict=True)
        )
    finally:
        handle.remove()
    return (torch.stack(sums).sum(dim=0) / len(labels)).cpu().numpy(), correct


@torch.no_grad()
def _put(last: Convolution, whole: list[Tensor], removed: NDArray[np.intp]) -> None:
    """Let these channels give 0, and all others what they gave."""
    for parameter, values in zip(last.own, whole, strict=True):
        parameter.copy_(_without(values, removed))


def _without(values: Tensor, removed: NDArray[np.intp]) -> Tensor:
    """The same with 0 in these rows."""
    left = values.clone()
    left[torch.from_numpy(removed).to(left.device)] = 0
    return left
