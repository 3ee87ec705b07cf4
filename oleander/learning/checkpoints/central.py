"""Makes a starting checkpoint the other way: trained centrally, the learning rate annealed to 0.

``python -m oleander.learning.checkpoints.central DATASET OUT.safetensors`` goes on from the shipped checkpoint for an epoch;
``--weights fresh --epochs 5`` begins from nothing. For comparison with the shipped checkpoints, which are averages of
clients at lr 0.2: how a start was made matters more than its accuracy (``docs/definitions.md``, "Starting point").
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from oleander.datasets.data import Dataset
from oleander.datasets.sources import load_dataset
from oleander.learning.checkpoints.pretrain import CENTRAL, say_accuracy, train_fastest
from oleander.learning.devices import prepare_device
from oleander.learning.parameters import Layout, arrays_of, load_arrays
from oleander.learning.weights import save_model, starting_model
from oleander.models import build

STEPS = 10
"""Learning rates an epoch; each is kept for a tenth of the images."""


def main() -> None:
    """Train, print the accuracy after each epoch, and write the model at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="as simulate.py's --dataset")
    parser.add_argument("out", type=Path, help="safetensors file to write")
    parser.add_argument("--weights", default="auto", help="the model to go on from, as simulate.py's --weights")
    parser.add_argument("--model", default=CENTRAL.model, help="as simulate.py's --model")
    parser.add_argument("--norm", default=CENTRAL.norm, choices=("batch", "group"), help="as simulate.py's --norm")
    parser.add_argument("--epochs", type=int, default=1, help="epochs over all training images")
    parser.add_argument("--threads", type=int, default=1, help="threads to train with")
    told = parser.parse_args()
    device = prepare_device(told.threads)
    dataset = load_dataset(told.dataset, "data", notify=print)
    model = (
        build(told.model, len(dataset.classes), dataset.image, told.norm)
        .to(device)
        .to(memory_format=torch.channels_last)
    )
    layout = Layout.of(model)
    start = starting_model(told.model, told.weights, dataset, layout, CENTRAL.seed, told.norm)
    load_arrays(model, layout.unflatten(start.state))
    say_accuracy(start.origin, model, dataset)
    for epoch in range(told.epochs):
        train_epoch(model, dataset, epoch, told.epochs)
        say_accuracy(f"epoch {epoch + 1}", model, dataset)
    print(f"sha256 {save_model(told.out, layout, layout.flatten(arrays_of(model)))}")


def train_epoch(model: nn.Module, dataset: Dataset, epoch: int, epochs: int) -> None:
    """Every training image once, in another order each epoch; the learning rate falls in equal steps towards 0."""
    order = np.random.default_rng([CENTRAL.seed, epoch]).permutation(len(dataset.train_labels))
    for part, rows in enumerate(np.array_split(order, STEPS)):
        step = epoch * STEPS + part
        shard = dataset.shard(0, rows)
        lr = CENTRAL.lr * (1 - step / (epochs * STEPS))
        train_fastest(model, shard, step, replace(CENTRAL, lr=lr))


if __name__ == "__main__":
    main()
