"""Makes a starting checkpoint: a few epochs over all training images, then a clean federated run that averages them out.

``python -m oleander.learning.checkpoints.pretrain toy OUT.safetensors`` (about half an hour on one core with bf16).

The course's checkpoint is a round of a clean federated run at lr 0.2, and how it was made matters more than its accuracy:
a model annealed to lr 0 falls apart in the first rounds at lr 0.2 (``docs/definitions.md``, "Starting point"). So the
central epochs here only save time; what is kept is the average over ten clients after each of the last rounds, which
train with the clients' own loop and learning rate. The toy set's model begins on easier images of the same figures
(``toy.EASIER``).
"""

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from oleander.datasets import toy_drawing
from oleander.datasets.data import Dataset, Images, Shard, stored
from oleander.datasets.partition import shard_of
from oleander.datasets.sources import load_dataset
from oleander.datasets.toy import TOY
from oleander.learning.devices import default_device, fastest_precision
from oleander.learning.evaluation import classifier, evaluate
from oleander.learning.parameters import Layout, ModelState, arrays_of, load_arrays
from oleander.learning.training import train
from oleander.learning.weights import save_model
from oleander.models import fresh_model
from oleander.settings.config import Experiment

SETTINGS = Experiment(partition="iid", clients=26, augment="epoch", local_epochs=2)
PER_ROUND = 10
CENTRAL = replace(SETTINGS, local_epochs=1, lr=0.05)
"""The central epochs': at lr 0.2 a fresh model takes several times as long to leave the ground."""
FEDERATED = 1000
"""Round numbers of the federated part start here, so that its random numbers are not those of the central part."""


def main() -> None:
    """Train, print the accuracy after each step, and write the model after each federated round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="as simulate.py's --dataset")
    parser.add_argument("out", type=Path, help="safetensors file to write")
    parser.add_argument("--model", default=SETTINGS.model, help="as simulate.py's --model")
    parser.add_argument("--norm", default=SETTINGS.norm, choices=("batch", "group"), help="as simulate.py's --norm")
    parser.add_argument("--epochs", type=int, default=6, help="central epochs")
    parser.add_argument("--easier", type=int, default=2, help="federated rounds on the easier images, for toy")
    parser.add_argument("--rounds", type=int, default=3, help="federated rounds on the dataset itself")
    parser.add_argument("--threads", type=int, default=1, help="threads to train with")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    dataset = load_dataset(arguments.dataset, "data", notify=print)
    first = stored("toy-easier", f"{toy_drawing.VERSION:016d}", _draw_easier) if dataset.name == "toy" else dataset
    model = fresh_model(arguments.model, len(dataset.classes), dataset.image, SETTINGS.seed, arguments.norm)
    model = model.to(default_device()).to(memory_format=torch.channels_last)
    everything = first.shard(0, np.arange(len(first.train_labels)))
    for epoch in range(1, arguments.epochs + 1):
        train_fastest(model, everything, epoch, CENTRAL)
        say_accuracy(f"epoch {epoch}", model, dataset)
    for number in range(1, arguments.easier + arguments.rounds + 1):
        federated_round(model, first if number <= arguments.easier else dataset, number)
        layout = Layout.of(model)
        sha256 = save_model(arguments.out, layout, layout.flatten(arrays_of(model)))
        say_accuracy(f"round {number}: sha256 {sha256}", model, dataset)


def federated_round(model: nn.Module, dataset: Dataset, number: int) -> None:
    """The next ten clients in turn train from the model; the model becomes their plain average."""
    layout = Layout.of(model)
    start = [array.copy() for array in arrays_of(model)]
    weights, statistics = np.zeros(layout.weight_count), np.zeros(layout.statistic_count)
    for turn in range(PER_ROUND):
        client = (number * PER_ROUND + turn) % SETTINGS.clients
        load_arrays(model, start)
        train_fastest(model, shard_of(client, dataset, SETTINGS), FEDERATED + number)
        local = layout.flatten(arrays_of(model))
        weights += local.weights
        statistics += local.statistics
    average = ModelState((weights / PER_ROUND).astype(np.float32), (statistics / PER_ROUND).astype(np.float32))
    load_arrays(model, layout.unflatten(average))


def _draw_easier() -> Images:
    return Images(
        *toy_drawing.make_toy(processes=1, difficulty=toy_drawing.EASIER), classes=toy_drawing.CLASSES, image=TOY
    )


def train_fastest(model: nn.Module, shard: Shard, round_number: int, settings: Experiment = SETTINGS) -> None:
    """The clients' own loop, in the precision that is fastest here."""
    train(model, shard, replace(settings, precision=fastest_precision(default_device())), round_number)


def say_accuracy(what: str, model: nn.Module, dataset: Dataset) -> None:
    """Print how the model does on the test images."""
    precision, device = fastest_precision(default_device()), default_device()
    scores = evaluate(
        classifier(model, precision, dataset.image), dataset.test_images, dataset.test_labels, None, 0, device
    )
    seconds = time.process_time()
    print(f"{what}: accuracy {scores.mta:.4f}, loss {scores.loss:.3f}, {seconds:.0f} s of CPU", flush=True)


if __name__ == "__main__":
    os.nice(5)
    main()
