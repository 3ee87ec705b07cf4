"""Local training: SGD over a client's shard, the hot path of every run.

The shard lies on the device as uint8 and is augmented there as a whole, with numbers drawn on the CPU, so that a GPU
sees the same images. Order for an image: random crop and flip → trigger → normalise (``docs/definitions.md``).
Nothing in a step waits for the device; bf16 is autocast's, over weights and an optimiser in fp32. What the model draws by itself,
its dropout, comes from a stream of the client's and the round's. With --cuda-graphs the step of a whole batch is one graph.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.sgd import sgd

from oleander.datasets.data import Shard, to_pixels
from oleander.learning.devices import autocast
from oleander.learning.graphs import Step, captured, draws, momenta_of
from oleander.settings.config import Experiment
from oleander.system.streams import torch_generator, torch_seeded

CROP = 8
"""Images are padded by a part in so many of their side before they are cropped: 4 pixels of 32."""
Finish = Callable[[Tensor], Tensor]
"""Augmented pixels (m, c, h, w) in [0, 1] of the whole shard → the pixels to train on."""
Tensors = list[Tensor]
"""One for each trained parameter, in the model's order, on its device."""


@dataclass(frozen=True)
class Hooks:
    """What a malicious client changes in its local training; each is given what it may look at and returns something new."""

    loss: Callable[[Tensor, Tensors], Tensor] | None = None
    """A step's loss and the weights → the loss that is minimised."""
    gradients: Callable[[Tensors], Tensors] | None = None
    """A step's gradients → those that the optimiser takes; its momentum and weight decay come after them."""
    weights: Callable[[Tensors], Tensors] | None = None
    """The weights after a step → where they are put."""
    before: Callable[[nn.Module, Tensor, Tensor], None] | None = None
    """Trains the model, in place, before the first step: on the normalised images (m, c, h, w) and labels of the first epoch."""


@dataclass(frozen=True)
class Fit:
    """What one local training reports."""

    loss: float
    """Mean cross-entropy over the last epoch, whatever hooks made of it."""
    images: int
    """Images passed through the model, all epochs."""


def train(
    model: nn.Module, shard: Shard, experiment: Experiment, round_number: int,
    finish: Finish = lambda pixels: pixels, hooks: Sequence[Hooks] = (),
) -> Fit:  # fmt: skip
    """Train the model in place on the shard, ``local_epochs`` times, with a fresh SGD.

    Args:
        model: on the device to train on, its weights the global model's.
        shard: m images and labels.
        experiment: epochs, batch size, learning rate, precision (fp32 or bf16) and the rest.
        round_number: keys the batches, and the augmentation unless that is drawn once, with the seed and the client.
        finish: what happens to pixels between augmentation and normalisation (a malicious client's trigger).
        hooks: what a malicious client changes in losses, gradients and weights, in this order, and does before.
    """
    device = next(model.parameters()).device
    key = (experiment.seed, round_number, shard.client_id)
    images = torch.from_numpy(shard.images).to(device)  # (m, c, h, w) uint8
    labels = torch.from_numpy(shard.labels).to(device)
    drawn_in = 0 if experiment.augment == "once" else round_number  # once: the same images in every round
    augmentation = _generator("augment", (experiment.seed, drawn_in, shard.client_id))
    order = _generator("batches", key)
    on_loss, on_gradients, on_weights, first = (
        [getattr(h, f.name) for h in hooks if getattr(h, f.name)] for f in fields(Hooks)
    )
    graphed = experiment.cuda_graphs and not (on_loss or on_gradients or on_weights or draws(model))
    kept = momenta_of(model) if graphed and experiment.momentum else []
    optimiser = _SGD(model, experiment, kept)

    def step(pixels: Tensor, truth: Tensor) -> Tensor:
        model.zero_grad(set_to_none=True)
        with autocast(experiment.precision, device):
            loss = F.cross_entropy(model(pixels), truth)
        minimised = loss
        for change in on_loss:
            minimised = change(minimised, optimiser.parameters)
        minimised.backward()
        for mask in on_gradients:
            _put(optimiser.gradients, mask(optimiser.gradients))
        optimiser.step()
        for move in on_weights:
            _put(optimiser.parameters, move([weight.detach() for weight in optimiser.parameters]))
        return loss.detach()

    model.train()
    whole: Step = step
    inputs, total = None, torch.zeros((), device=device)
    with torch_seeded(_generator("model", key).initial_seed(), device):
        for _ in range(experiment.local_epochs):
            if inputs is None or experiment.augment == "epoch":
                moved = images if experiment.augment == "none" else augmented(images, augmentation)
                inputs = shard.image.normalise(finish(to_pixels(moved)))  # (m, c, h, w)
            while first:
                first.pop(0)(model, inputs, labels)
            total.zero_()
            for batch in torch.randperm(len(labels), generator=order).to(device).split(experiment.batch_size):
                pixels, truth = inputs[batch], labels[batch]
                if graphed and whole is step and len(batch) == experiment.batch_size:
                    moving = [*model.parameters(), *model.buffers(), *kept]
                    fixed = tuple(getattr(experiment, name) for name in ("lr", "momentum", "weight_decay", "precision"))
                    whole = captured(model, step, moving, pixels, truth, fixed)
                total += (whole if len(batch) == experiment.batch_size else step)(pixels, truth) * len(batch)
    return Fit(loss=float(total) / len(labels), images=experiment.local_epochs * len(labels))


class _SGD:
    """``torch.optim.SGD``'s own steps without its object: the first ``Optimizer`` made in a process imports PyTorch's compiler."""

    def __init__(self, model: nn.Module, experiment: Experiment, kept: Tensors) -> None:
        """``kept``: zeros for the momenta, in the same places for as long as the model lives; [] makes new ones in the first step."""
        self.parameters: list[Tensor] = list(model.parameters())
        self.momenta: list[Tensor | None] = [*kept] or [None] * len(self.parameters)
        self.lr, self.momentum, self.weight_decay = experiment.lr, experiment.momentum, experiment.weight_decay

    @property
    def gradients(self) -> Tensors:
        return [cast(Tensor, parameter.grad) for parameter in self.parameters]  # after backward each has one

    @torch.no_grad()
    def step(self) -> None:
        sgd(
            self.parameters, self.gradients, self.momenta, fused=True, lr=self.lr, momentum=self.momentum,
            weight_decay=self.weight_decay, dampening=0.0, nesterov=False, maximize=False,
        )  # fmt: skip


@torch.no_grad()
def _put(places: Tensors, values: Tensors) -> None:
    """Copy new values over old ones, each into its own place."""
    for place, value in zip(places, values, strict=True):
        place.copy_(value)


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Random crop (padded by an eighth) and horizontal flip of each image: (m, c, h, w) → the same, new, on the same device."""
    m, channels, height, width = images.shape
    device = images.device
    pad = height // CROP
    padded = F.pad(images, (pad, pad, pad, pad))
    rows = torch.randint(0, 2 * pad + 1, (m, 1), generator=generator) + torch.arange(height)  # (m, h)
    columns = torch.randint(0, 2 * pad + 1, (m, 1), generator=generator) + torch.arange(width)  # (m, w)
    flip = torch.rand(m, 1, generator=generator) < 0.5
    columns = torch.where(flip, columns.flip(1), columns)
    which, channel = torch.arange(m, device=device).view(m, 1, 1, 1), torch.arange(channels, device=device)
    rows, columns = rows.to(device), columns.to(device)
    return padded[which, channel.view(1, -1, 1, 1), rows.view(m, 1, -1, 1), columns.view(m, 1, 1, -1)]


def _generator(stream: str, key: tuple[int, int, int]) -> torch.Generator:
    seed, round_number, client_id = key
    return torch_generator(seed, stream, round_number, client_id)
