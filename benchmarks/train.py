"""Images a second of local training, against the bound that matrix products set on this machine.

Each row is one way to use the cores: so many processes at once (as Ray's actors are), so many threads each. The GEMM peak
is measured by the same processes in the same arrangement. "plain" is the textbook loop: fp32, PyTorch's default layout.
"""

import multiprocessing
import queue
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.common import Spread, arguments, flops_per_image, gemm_rate, precisions, ratios, show, timed, write
from oleander.datasets.cifar10 import CIFAR10
from oleander.datasets.data import Shard, to_pixels
from oleander.learning.devices import fastest_precision, prepare_device
from oleander.learning.training import train
from oleander.models import fresh_model
from oleander.settings.config import Experiment
from oleander.system.machine import cpu_count


def work(way: str, shard: Shard, epochs: int, device: torch.device) -> None:
    """One client's local training."""
    if way == "plain":
        return plain(shard, epochs, device)
    model = fresh_model(Experiment.model, 10, CIFAR10, 0).to(device).to(memory_format=torch.channels_last)
    train(model, shard, replace(Experiment(), precision=way, local_epochs=epochs), round_number=1)
    return None


def plain(shard: Shard, epochs: int, device: torch.device) -> None:
    """The loop that everyone writes first; its augmentation is left out, in its favour."""
    model = fresh_model(Experiment.model, 10, CIFAR10, 0).to(device).train()
    images, labels = (
        shard.image.normalise(to_pixels(shard.images)).contiguous().to(device),
        torch.from_numpy(shard.labels).to(device),
    )
    optimiser = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9, weight_decay=5e-4)
    for _ in range(epochs):
        for batch in torch.randperm(len(labels)).split(64):
            optimiser.zero_grad()
            loss = F.cross_entropy(model(images[batch.to(device)]), labels[batch.to(device)])
            loss.backward()
            optimiser.step()


def worker(ways: Sequence[str], threads: int, epochs: int, orders: Any, results: Any, together: Any) -> None:
    """A process that does what it is told, at the same moment as the others."""
    device = prepare_device(threads)
    rng = np.random.default_rng(0)
    shard = Shard(0, rng.integers(0, 256, (384, *CIFAR10.shape), dtype=np.uint8), rng.integers(0, 10, 384), CIFAR10)
    for way in ways:
        work(way, shard, 1, device)  # warm
    while (order := orders.get()) is not None:
        kind, name = order
        together.wait()
        if kind == "gemm":
            results.put(gemm_rate(name, device))
        else:
            results.put(384 * epochs / timed(lambda name=name: work(name, shard, epochs, device), device))


def measure(ways: Sequence[str], processes: int, threads: int, repeats: int, epochs: int) -> dict[str, list[float]]:
    """Images a second of all processes together, way by way, and the FLOP/s of their products."""
    context = multiprocessing.get_context("spawn")
    results, together = context.Queue(), context.Barrier(processes)
    orders = [context.Queue() for _ in range(processes)]
    workers = [context.Process(target=worker, args=(ways, threads, epochs, box, results, together)) for box in orders]
    for process in workers:
        process.start()
    found: dict[str, list[float]] = {name: [] for name in (*ways, *(f"gemm {way}" for way in ways if way != "plain"))}
    for _ in range(repeats):
        for name in found:
            for box in orders:
                box.put(("gemm", name.split()[1]) if name.startswith("gemm") else ("train", name))
            found[name].append(sum(take(results, workers) for _ in workers))
    for box in orders:
        box.put(None)
    for process in workers:
        process.join()
    return found


def take(results: Any, workers: list[Any]) -> float:
    """The next result, or an error where a worker has died."""
    while True:
        try:
            return float(results.get(timeout=5))
        except queue.Empty:
            if not all(process.is_alive() for process in workers):
                raise SystemExit("a measuring process died; its error is above") from None


def main() -> None:
    """Measure, print, write."""
    told = arguments(
        __doc__, repeats=(5, "repeats of each measure"), epochs=(2, "local epochs of 384 images a measure")
    )
    cores, ways = cpu_count(), ("plain", *precisions(prepare_device(1)))
    flops = flops_per_image()[1]
    arrangements = dict.fromkeys([(1, 1), (1, cores), (cores, 1)])
    if torch.cuda.is_available():
        arrangements = dict.fromkeys([(1, 1), (2, 1), (4, 1), (8, 1)])
    rows, measured = [], {}
    for processes, threads in arrangements:
        found = measured[f"{processes}x{threads}"] = measure(ways, processes, threads, told.repeats, told.epochs)
        for way in ways:
            peak = found["gemm bf16" if way == "bf16" else "gemm fp32"]
            bound = ratios([rate * flops for rate in found[way]], peak)
            rows.append([
                f"{processes} x {threads}", way, Spread.of(found[way]), f"{Spread.of(peak).median / flops:.0f}",
                f"{bound.median:.0%}", ratios(found[way], found["plain"]),
            ])  # fmt: skip
    print(f"{flops / 1e9:.3f} GFLOP an image; --precision auto chooses {fastest_precision(prepare_device(1))}")
    columns = ("processes x threads", "way", "images/s", "bound by GEMM peak", "reached", "over plain")
    show("Local training (ResNet18Light, batch 64)", columns, rows)
    write(told.json, flops_per_image=flops, measured=measured)


if __name__ == "__main__":
    main()
