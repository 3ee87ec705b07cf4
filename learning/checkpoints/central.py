"""Makes a starting checkpoint the other way: trained centrally, the learning rate annealed to 0.

``python -m learning.checkpoints.central DATASET OUT.safetensors`` goes on from the shipped checkpoint for an epoch;
``--weights fresh --epochs 5`` begins from nothing. For comparison with the shipped checkpoints, which are averages of
clients at lr 0.2 (``docs/results.md``): such a model stands in a narrow minimum, and clients at lr 0.2 throw it out.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from clients.training import train
from experiment.config import Experiment
from learning.data import Dataset, Shard
from learning.devices import default_device, fastest_precision, prepare_device
from learning.evaluation import classifier, evaluate
from learning.parameters import Layout, arrays_of, load_arrays
from learning.resnet import ResNet18Light
from learning.sources import load_dataset
from learning.weights import save_model, starting_model

STEPS = 10
"""Learning rates an epoch; each is kept for a tenth of the images."""
SETTINGS = Experiment(local_epochs=1, lr=0.05)


def main() -> None:
    """Train, print the accuracy after each epoch, and write the model at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="as simulate.py's --dataset")
    parser.add_argument("out", type=Path, help="safetensors file to write")
    parser.add_argument("--weights", default="auto", help="the model to go on from, as simulate.py's --weights")
    parser.add_argument("--epochs", type=int, default=1, help="epochs over all training images")
    parser.add_argument("--threads", type=int, default=1, help="threads to train with")
    told = parser.parse_args()
    device = prepare_device(told.threads)
    dataset = load_dataset(told.dataset, "data", notify=print)
    model = ResNet18Light(len(dataset.classes)).to(device).to(memory_format=torch.channels_last)
    layout = Layout.of(model)
    start = starting_model(told.weights, dataset, layout, SETTINGS.seed)
    load_arrays(model, layout.unflatten(start.state))
    print(f"from {start.origin}: accuracy {accuracy(model, dataset):.4f}", flush=True)
    for epoch in range(told.epochs):
        train_epoch(model, dataset, epoch, told.epochs)
        print(f"epoch {epoch + 1}: accuracy {accuracy(model, dataset):.4f}", flush=True)
    print(f"sha256 {save_model(told.out, layout, layout.flatten(arrays_of(model)))}")


def train_epoch(model: ResNet18Light, dataset: Dataset, epoch: int, epochs: int) -> None:
    """Every training image once, in another order each epoch; the learning rate falls in equal steps towards 0."""
    precision = fastest_precision(default_device())
    order = np.random.default_rng([SETTINGS.seed, epoch]).permutation(len(dataset.train_labels))
    for part, rows in enumerate(np.array_split(order, STEPS)):
        step = epoch * STEPS + part
        shard = Shard(0, dataset.train_images[rows], dataset.train_labels[rows])
        lr = SETTINGS.lr * (1 - step / (epochs * STEPS))
        train(model, shard, replace(SETTINGS, lr=lr, precision=precision), round_number=step)


def accuracy(model: ResNet18Light, dataset: Dataset) -> float | None:
    """Share (0 to 1) of the test images classified as their class."""
    device = default_device()
    classify = classifier(model, fastest_precision(device))
    return evaluate(classify, dataset.test_images, dataset.test_labels, None, SETTINGS.target, device).mta


if __name__ == "__main__":
    main()
