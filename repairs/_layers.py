"""What a model's layers give on their way to the logits, whatever the model: found by running it once, not by its layers' names."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from oleander.datasets.data import Shard, to_pixels
from oleander.datasets.space import ImageSpace

Size = tuple[int, ...]
"""Height and width of a layer's map."""


@dataclass(frozen=True)
class Convolution:
    """A convolution and the norm that takes what it gives, if one does."""

    layer: nn.Conv2d
    norm: nn.Module | None

    @property
    def end(self) -> nn.Module:
        """The module whose output is the convolution's, normalised."""
        return self.norm or self.layer

    @property
    def own(self) -> list[nn.Parameter]:
        """What a channel's output is made with, a row of each: where these are 0, so is it."""
        last = self.norm or self.layer
        return [p for p in (last.weight, last.bias) if isinstance(p, nn.Parameter)]


def device_of(module: nn.Module) -> torch.device:
    """Where a module is."""
    return next(module.parameters()).device


def inputs_of(shard: Shard, module: nn.Module) -> tuple[Tensor, Tensor]:
    """A shard's normalised images (m, c, h, w), as they are, and its labels (m,), where the module is."""
    device = device_of(module)
    pixels = to_pixels(torch.from_numpy(shard.images).to(device))
    return shard.image.normalise(pixels), torch.from_numpy(shard.labels).to(device)


def last_convolution(module: nn.Module, image: ImageSpace) -> Convolution | None:
    """The convolution that is run last in front of the output layer (in a model without linear layers, that is a convolution)."""
    ran: list[tuple[nn.Module, Tensor, Tensor]] = []

    def note(layer: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        ran.append((layer, given[0], out))

    kinds = (nn.Conv2d, nn.Linear, _BatchNorm, nn.GroupNorm)
    with _hooked([layer for layer in module.modules() if isinstance(layer, kinds)], note):
        _run(module, image)
    layers = [i for i, (layer, _, _) in enumerate(ran) if isinstance(layer, nn.Conv2d | nn.Linear)]
    convolutions = [i for i in layers[:-1] if isinstance(ran[i][0], nn.Conv2d)]
    if not convolutions:
        return None
    layer, _, out = ran[convolutions[-1]]
    assert isinstance(layer, nn.Conv2d)
    norms = [n for n, given, _ in ran if given is out and not isinstance(n, nn.Conv2d | nn.Linear)]
    scaled = [norm for norm in norms if isinstance(norm.weight, nn.Parameter)]
    return Convolution(layer, scaled[0] if scaled else None)


def batch_norms(module: nn.Module) -> dict[str, _BatchNorm]:
    """Name → batch norm that has a scale and a shift."""
    found = ((name, norm) for name, norm in module.named_modules() if isinstance(norm, _BatchNorm))
    return {name: norm for name, norm in found if isinstance(norm.weight, nn.Parameter)}


@contextlib.contextmanager
def maps_of(module: nn.Module) -> Iterator[dict[Size, Tensor]]:
    """Within, after each run of the module: for each size at which a convolution ended, the last map (b, c, h, w) of that size.

    These are the outputs of a ResNet's groups, and the last before each pooling of a VGG. A map of one pixel has no attention.
    """
    seen: dict[Size, Tensor] = {}
    convolved: set[Size] = set()

    def begin(*_: object) -> None:
        seen.clear()
        convolved.clear()

    def note(layer: nn.Module, _: object, out: object) -> None:
        if isinstance(out, Tensor) and out.dim() == 4 and out.shape[2] * out.shape[3] > 1:
            size = tuple(out.shape[2:])
            if isinstance(layer, nn.Conv2d):
                convolved.add(size)
            if size in convolved:
                seen[size] = out

    first = module.register_forward_pre_hook(begin)
    with _hooked([layer for layer in module.modules() if layer is not module], note):
        try:
            yield seen
        finally:
            first.remove()


def map_sizes(module: nn.Module, image: ImageSpace) -> list[Size]:
    """The sizes of its maps, in the order in which they first come."""
    with maps_of(module) as seen:
        _run(module, image)
        return list(seen)


@contextlib.contextmanager
def _hooked(layers: list[nn.Module], hook: object) -> Iterator[None]:
    handles = [layer.register_forward_hook(hook) for layer in layers]  # type: ignore[arg-type]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _run(module: nn.Module, image: ImageSpace) -> None:
    """Run it once on a black image, in evaluation mode."""
    with torch.no_grad():
        module.eval()(image.normalise(torch.zeros(1, *image.shape)).to(device_of(module)))
