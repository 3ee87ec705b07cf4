"""The same scenario as a straightforward loop would run it: one process, fp32, no Flower, no Ray, no tricks.

It is what ``scenario.py`` compares with, and it is written apart from the project's own training, evaluation and
aggregation: models are dicts of tensors that are averaged key by key, tensors are batched once, evaluation goes through the
whole test set. It shares what makes the work the same: the images (already decoded, in its favour), the shards, the random
numbers of crops, flips and batches, and the trigger's picture.
"""

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
import psutil
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from attacks import attack_of
from oleander.datasets.data import Dataset
from oleander.datasets.partition import shard_of
from oleander.datasets.sources import load_dataset
from oleander.learning.evaluation import answers
from oleander.learning.training import augmented
from oleander.models import build
from oleander.settings.cli import load_scenario
from oleander.settings.config import Experiment
from oleander.system.streams import generator, torch_generator


def main() -> None:
    """Run the scenario and print what it came to as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", default="blend")
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--weights", required=True, help="safetensors file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--eval-batch", type=int, default=256)
    told = parser.parse_args()
    e = load_scenario(told.scenario)
    e = type(e)(**{**vars(e), "seed": told.seed, "rounds": told.rounds})
    data = load_dataset(told.dataset, "data", print)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (data.image.mean, data.image.std))
    trigger = attack_of(e, data.image).trigger
    assert trigger is not None and e.malicious == 1, "only one attacker with a whole trigger"

    # the test set, batched once
    pixels, truth = (
        torch.from_numpy(np.array(data.test_images)).float() / 255,
        torch.from_numpy(np.array(data.test_labels)),
    )
    clean = list(zip(((pixels - mean) / std).split(told.eval_batch), truth.split(told.eval_batch), strict=True))
    others = truth != e.target
    stamped = [part.to(device) for part in ((trigger(pixels[others]) - mean) / std).split(told.eval_batch)]
    clean = [(x.to(device), y.to(device)) for x, y in clean]

    model = build(e.model, len(data.classes), data.image, e.norm).to(device)
    start = load_file(told.weights)
    model.load_state_dict({**model.state_dict(), **start})
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    scores, seconds = [], {"train": 0.0, "evaluate": 0.0}
    began = time.time()
    for number in range(1, e.rounds + 1):
        drawn = generator(e.seed, "selection", number).choice(e.clients, size=e.clients_per_round, replace=False)
        mark = time.perf_counter()
        locals_ = []
        for client in sorted(int(c) for c in drawn):
            model.load_state_dict(state)
            train(model, client, number, data, e, trigger, mean, std, device)
            locals_.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        state = {name: sum(local[name] for local in locals_) / len(locals_) for name in state}
        model.load_state_dict(state)
        seconds["train"] += time.perf_counter() - mark
        mark = time.perf_counter()
        asr = (
            share(model, [(x, torch.full((len(x),), e.target, device=device)) for x in stamped])
            if number == e.rounds
            else None
        )
        scores.append({"mta": share(model, clean), "asr": asr})
        seconds["evaluate"] += time.perf_counter() - mark
    print(json.dumps({"scores": scores, "seconds": {**seconds, "startup": began - psutil.Process().create_time()}}))


def train(model, client, number, data, e, trigger, mean, std, device) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """SGD on one client's shard, poisoned if it is the attacker's."""
    images, labels = trained_on(client, data, e, trigger)
    inputs, labels = ((images - mean) / std).to(device), labels.to(device)
    order = torch_generator(e.seed, "batches", number, client)
    optimiser = torch.optim.SGD(model.parameters(), lr=e.lr, momentum=e.momentum, weight_decay=e.weight_decay)
    model.train()
    for _ in range(e.local_epochs):
        for batch in torch.randperm(len(labels), generator=order).to(device).split(e.batch_size):
            optimiser.zero_grad()
            loss = F.cross_entropy(model(inputs[batch]), labels[batch])
            loss.backward()
            optimiser.step()


def trained_on(client: int, data: Dataset, e: Experiment, trigger: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Pixels in [0, 1] and labels of a client's shard, augmented once; half of the attacker's are stamped and relabelled."""
    shard = shard_of(client, data, e)
    images, labels = torch.from_numpy(shard.images), torch.from_numpy(shard.labels)
    if e.augment == "once":
        images = augmented(images, torch_generator(e.seed, "augment", 0, client))
    images = images.float() / 255
    if client in e.malicious_clients:
        drawn = generator(e.seed, "poison", client=client)
        chosen = drawn.choice(len(labels), size=round(e.poison_rate * len(labels)), replace=False)
        images[chosen] = trigger(images[chosen])
        labels[chosen] = e.target
    return images, labels


@torch.no_grad()
def share(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> float:
    """Share of the images that the model puts into the class given with them."""
    model.eval()
    right = sum(int((answers(model(images)) == labels).sum()) for images, labels in batches)
    return right / sum(len(labels) for _, labels in batches)


if __name__ == "__main__":
    main()
