"""Images a second of evaluation, against the bound that matrix products set on this machine, both on all cores.

"plain" is what everyone writes first: the model as it is in fp32, PyTorch's default layout, all threads on one batch.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.common import (
    Spread,
    arguments,
    flops_per_image,
    gemm_rate,
    in_turn,
    precisions,
    ratios,
    show,
    timed,
    write,
)
from oleander.datasets.cifar10 import CIFAR10
from oleander.datasets.data import to_pixels
from oleander.learning.devices import prepare_device
from oleander.learning.evaluation import classifier, evaluate
from oleander.models import fresh_model
from oleander.settings.config import Experiment
from oleander.system.machine import cpu_count


def main() -> None:
    """Measure, print, write."""
    told = arguments(
        __doc__, repeats=(5, "repeats of each measure"), images=(4000, "test images a measure"),
        plain_batches=([64, 256, 1000], "batch sizes of the plain way"),
    )  # fmt: skip
    device = prepare_device(1)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (told.images, *CIFAR10.shape), dtype=np.uint8)
    labels = rng.integers(0, 10, told.images)
    model = moved(fresh_model(Experiment.model, 10, CIFAR10, 0)).to(device)
    tensors = CIFAR10.normalise(to_pixels(images)).contiguous().to(device)

    def plain(batch: int) -> Callable[[], float]:
        return lambda: told.images / timed(lambda: evaluated_plainly(model, tensors, batch), device)

    def ours(precision: str) -> Callable[[], float]:
        return lambda: (
            told.images
            / timed(lambda: evaluate(classifier(model, precision, CIFAR10), images, labels, None, 0, device), device)
        )

    def gemm(precision: str) -> Callable[[], float]:
        return lambda: on_all_cores(lambda: gemm_rate(precision, device))

    native = precisions(device)
    ways = {f"plain, batch {batch}": plain(batch) for batch in told.plain_batches} | {p: ours(p) for p in native}
    for way in ways.values():
        way()  # warm
    found = in_turn(told.repeats, ways | {f"gemm {p}": gemm(p) for p in native})
    flops = flops_per_image()[0]
    first = next(iter(ways))
    rows = []
    for way in ways:
        peak = found["gemm bf16" if way == "bf16" else "gemm fp32"]
        reached = ratios([rate * flops for rate in found[way]], peak)
        rows.append([
            way, Spread.of(found[way]), f"{Spread.of(peak).median / flops:.0f}", f"{reached.median:.0%}",
            ratios(found[way], found[first]),
        ])  # fmt: skip
    apart = agreement(model, native, device)
    said = ", ".join(f"{precision} {most:.1e}" for precision, most in apart.items())
    print(f"{flops / 1e9:.3f} GFLOP an image; logits apart from the plain model's at most: {said}")
    columns = ("way", "images/s", "bound by GEMM peak", "reached", f"over {first}")
    show(f"Evaluation (ResNet18Light, {cpu_count()} cores)", columns, rows)
    write(told.json, flops_per_image=flops, measured=found, logits_apart=apart)


def moved(model: nn.Module) -> nn.Module:
    """The model with statistics of its own, so that folding them has something to fold."""
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(64, *CIFAR10.shape))
    return model.eval()


def on_all_cores(work: Callable[[], float]) -> float:
    """The same with a thread on each core inside every operation."""
    torch.set_num_threads(cpu_count())
    try:
        return work()
    finally:
        torch.set_num_threads(1)


def evaluated_plainly(model: nn.Module, tensors: Tensor, batch: int) -> int:
    """Class counts of all images, batch after batch, all cores in each operation."""

    def count() -> int:
        with torch.no_grad():
            return sum(int(model(part).argmax(1).sum()) for part in tensors.split(batch))

    return int(on_all_cores(count))


@torch.inference_mode()
def agreement(model: nn.Module, native: Sequence[str], device: torch.device) -> dict[str, float]:
    """Greatest difference between the plain model's logits and each precision's."""
    images = (torch.rand(500, *CIFAR10.shape) * 255).round() / 255
    plain = model(CIFAR10.normalise(images).contiguous().to(device))
    return {p: float((classifier(model, p, CIFAR10)(images.to(device)) - plain).abs().max()) for p in native}


if __name__ == "__main__":
    main()
