"""ANP, adversarial neuron pruning: remove the channels whose loss is the most sensitive to a change of their own scale.

Wu, Wang 2021, "Adversarial Neuron Pruning Purifies Backdoored Deep Models" (NeurIPS; arXiv 2110.14430). A neuron is a channel of a
batch norm, with scale w and shift b. A mask m in [0, 1] for each minimises, on clean images,
α L(m ⊙ w, b) + (1 − α) max L((m + δ) ⊙ w, (1 + ξ) ⊙ b) over δ and ξ in [−ε, ε]; where m is then at or below a threshold, the scale
becomes 0. Each iteration draws a batch, starts δ and ξ at random, moves them by ε along the sign of the loss's gradient, and makes
one step of SGD (momentum 0.9) on m, which is cut to [0, 1].

As in the authors' code a shift stays where a scale is removed, masks are trained with the statistics of the batch, the images are
cropped and flipped anew each time (not with ``--augment none``), and nothing is fine-tuned. We differ: δ and ξ are cut to [−ε, ε]
after their step, as in the paper's problem (in the code they reach 2ε); a batch is of the clients' size (theirs 128), without an
image twice; one threshold is set beforehand, where their script tries many and prints the ASR of each.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from oleander.datasets.data import to_pixels
from oleander.learning.parameters import Layout, ModelState, arrays_of
from oleander.learning.root import Root
from oleander.learning.training import augmented
from oleander.settings.ranges import Count, NotNegative, Positive, Rate
from oleander.system.display import here
from oleander.system.streams import torch_seeded
from repairs._layers import batch_norms, device_of
from strategies import Modules, RuleError

MOMENTUM = 0.9
"""Of the masks' SGD."""


def anp(
    model: ModelState, *, root: Root, layout: Layout, module: Modules, rng: np.random.Generator,
    batch_size: int, augment: str, anp_epsilon: NotNegative = 0.4, anp_alpha: Rate = 0.2,
    anp_iterations: Count = 2000, anp_lr: Positive = 0.2, anp_threshold: Rate = 0.2,
) -> ModelState:  # fmt: skip
    """Remove the channels that a small change of scales turns against clean images (Wu, Wang 2021).

    Args:
        model: the global model after the last round; left as it is.
        root: the server's clean images.
        layout: which tensor the numbers belong to.
        module: makes the network.
        rng: draws batches, augmentation and where perturbations start.
        batch_size: images of a batch.
        augment: whether they are cropped and flipped.
        anp_epsilon: How far scales and shifts are perturbed, as a share of their own, ε (>= 0).
        anp_alpha: What the loss without perturbation counts, α (0 to 1); with it counts 1 - α.
        anp_iterations: Steps in which the masks are trained.
        anp_lr: Learning rate of the masks (> 0).
        anp_threshold: Up to which mask (0 to 1) a channel is removed.

    Raises:
        RuleError: a model without batch norm.
    """
    net = module(model)
    norms = batch_norms(net)
    if not norms:
        raise RuleError("anp perturbs the scales of batch norms, and there is none")
    masked = _Masked(net, norms)
    images, labels = (torch.from_numpy(part).to(device_of(net)) for part in (root.shard.images, root.shard.labels))
    velocity, masks, progress = torch.zeros(masked.count), torch.ones(masked.count), here()
    drawn = torch.Generator().manual_seed(int(rng.integers(2**63)))
    with torch_seeded(int(rng.integers(2**63)), device_of(net)):
        for done in range(anp_iterations):
            progress.at(done, anp_iterations)
            rows = torch.from_numpy(rng.permutation(len(labels))[:batch_size]).to(labels.device)
            taken = images[rows] if augment == "none" else augmented(images[rows], drawn)
            batch = root.shard.image.normalise(to_pixels(taken)), labels[rows]
            start = torch.from_numpy(rng.uniform(-anp_epsilon, anp_epsilon, (2, masked.count)).astype(np.float32))
            noise = masked.worst(masks, start, anp_epsilon, *batch)
            velocity = MOMENTUM * velocity + masked.gradient(masks, noise, anp_alpha, *batch)
            masks = (masks - anp_lr * velocity).clamp(0, 1)
    after = module(model)
    masked.remove(after, masks <= anp_threshold)
    return layout.flatten(arrays_of(after))


class _Masked:
    """A network whose batch norms' scales and shifts are multiplied by factors, a number for each channel of all in turn."""

    def __init__(self, net: nn.Module, norms: dict[str, _BatchNorm]) -> None:
        self._net, self._device = net.requires_grad_(False), device_of(net)
        self._own = {name: (norm.weight.clone(), norm.bias.clone()) for name, norm in norms.items()}
        self._sizes = [len(scale) for scale, _ in self._own.values()]
        self.count = sum(self._sizes)

    def loss(self, scales: Tensor, shifts: Tensor, pixels: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy with these factors (count,)."""
        parts = (factors.to(self._device).split(self._sizes) for factors in (scales, shifts))
        changed: dict[str, Tensor] = {}
        for (name, (scale, shift)), by, shifted_by in zip(self._own.items(), *parts, strict=True):
            changed |= {f"{name}.weight": scale * by, f"{name}.bias": shift * shifted_by}
        return F.cross_entropy(functional_call(self._net.train(), changed, (pixels,)), labels)

    def worst(self, masks: Tensor, start: Tensor, epsilon: float, pixels: Tensor, labels: Tensor) -> Tensor:
        """δ and ξ (2, count) in [−ε, ε]: from where they start, one step of ε up the loss."""
        noise = start.clone().requires_grad_()
        self.loss(masks + noise[0], 1 + noise[1], pixels, labels).backward()
        assert noise.grad is not None
        return (start + epsilon * noise.grad.sign()).clamp(-epsilon, epsilon)

    def gradient(self, masks: Tensor, noise: Tensor, alpha: float, pixels: Tensor, labels: Tensor) -> Tensor:
        """Of α · the loss + (1 − α) · the loss under this noise, by the masks (count,)."""
        own = masks.clone().requires_grad_()
        plain = self.loss(own, torch.ones_like(own), pixels, labels)
        perturbed = self.loss(own + noise[0], 1 + noise[1], pixels, labels)
        (alpha * plain + (1 - alpha) * perturbed).backward()
        assert own.grad is not None
        return own.grad

    @torch.no_grad()
    def remove(self, net: nn.Module, which: Tensor) -> None:
        """Let the scale of these channels (count,) be 0, in a network like this one."""
        norms = batch_norms(net)
        for name, rows in zip(self._own, which.to(self._device).split(self._sizes), strict=True):
            norms[name].weight[rows] = 0
