"""Flower as its quickstart shows it, doing the work that lies in a folder: what ``peers.py`` compares a run of ours with.

A ClientApp that trains with a DataLoader and torch's own SGD, a ServerApp with FedAvg, whose evaluate_fn scores the global model
before the first round and after each. The images were decoded, augmented, stamped and normalised before, in its favour.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import psutil
import torch
import torch.nn.functional as F
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

from oleander.datasets.space import ImageSpace
from oleander.models import build


def main() -> None:
    """Run it and print what it came to as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "work", type=Path, help="folder with work.json, start.pt, client-N.npz, clean.npz and stamped.npz"
    )
    parser.add_argument("--client-cpus", type=float, default=1, help="CPUs that Ray sets aside for a client")
    parser.add_argument("--eval-batch", type=int, default=64)
    told = parser.parse_args()
    folder, work = told.work.absolute(), json.loads((told.work / "work.json").read_text())
    found: dict[str, object] = {}
    gpus = torch.cuda.device_count() * told.client_cpus / (os.cpu_count() or 1)
    run_simulation(
        server_of(folder, work, told.eval_batch, found),
        client_of(folder, work),
        num_supernodes=work["clients"],
        backend_config={"client_resources": {"num_cpus": told.client_cpus, "num_gpus": gpus}},
    )
    print(json.dumps(found))


def client_of(folder: Path, work: dict) -> ClientApp:
    """Trains the model that it is sent on its part of the data."""
    app = ClientApp()

    @app.train()
    def train(msg: Message, context: Context) -> Message:
        began, device = time.time(), device_here()
        data = dataset(folder / f"client-{context.node_config['partition-id']}.npz")
        loader = DataLoader(data, batch_size=work["batch_size"], shuffle=True)
        model = model_of(work).to(device)
        model.load_state_dict(msg.content["arrays"].to_torch_state_dict())
        settings = {name: work[name] for name in ("lr", "momentum", "weight_decay")}
        optimiser = torch.optim.SGD(model.parameters(), **settings)
        model.train()
        images = 0
        for _ in range(work["local_epochs"]):
            for x, y in loader:
                optimiser.zero_grad()
                F.cross_entropy(model(x.to(device)), y.to(device)).backward()
                optimiser.step()
                images += len(y)
        metrics = {"num-examples": len(data), "began": began, "images": images}
        content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": MetricRecord(metrics)})
        return Message(content=content, reply_to=msg)

    return app


def server_of(folder: Path, work: dict, batch: int, found: dict[str, object]) -> ServerApp:
    """Averages models, and scores them; what it came to is put into ``found``."""
    app = ServerApp()

    @app.main()
    def serve(grid: Grid, _context: Context) -> None:
        device = device_here()
        model = model_of(work).to(device)
        model.load_state_dict(torch.load(folder / "start.pt"))
        clean, stamped = dataset(folder / "clean.npz"), dataset(folder / "stamped.npz")
        marks: list[tuple[float, float]] = []
        scores: list[dict[str, float]] = []

        def evaluate(number: int, arrays: ArrayRecord) -> MetricRecord:
            mark = time.time()
            model.load_state_dict(arrays.to_torch_state_dict())
            middle = 0 < number < work["rounds"]
            some = [
                Subset(data, work[rows]) if middle else data for data, rows in ((clean, "rows"), (stamped, "victims"))
            ]
            mta, asr = (share(model, DataLoader(data, batch_size=batch), device) for data in some)
            scores.append({"mta": mta, "asr": asr, "scored": [len(data) for data in some]})
            marks.append((mark, time.time()))
            return MetricRecord({"mta": mta, "asr": asr})

        def metrics(replies: list[RecordDict], _weight: str) -> MetricRecord:
            told = [next(iter(reply.metric_records.values())) for reply in replies]
            return MetricRecord(
                {"began": min(one["began"] for one in told), "images": sum(one["images"] for one in told)}
            )

        strategy = FedAvg(fraction_evaluate=0.0, train_metrics_aggr_fn=metrics)
        start = ArrayRecord(model.state_dict())
        result = strategy.start(grid=grid, initial_arrays=start, num_rounds=work["rounds"], evaluate_fn=evaluate)
        first = result.train_metrics_clientapp[1]["began"]
        scoring = [end - begin for begin, end in marks]
        found["scores"] = scores
        found["images"] = [one["images"] for one in result.train_metrics_clientapp.values()]
        found["startup"] = (
            first - psutil.Process().create_time() - scoring[0]
        )  # the start is scored before anybody trains
        found["evaluate"] = sum(scoring)
        found["train"] = marks[-1][0] - first - sum(scoring[1:-1])

    return app


def dataset(file: Path) -> TensorDataset:
    """Normalised images and labels of a file."""
    with np.load(file) as arrays:
        return TensorDataset(torch.from_numpy(arrays["inputs"]), torch.from_numpy(arrays["labels"]))


def model_of(work: dict) -> nn.Module:
    """Untrained."""
    return build(work["model"], work["classes"], ImageSpace(**work["image"]), work["norm"])


def device_here() -> torch.device:
    """A GPU where this process may see one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@torch.no_grad()
def share(model: nn.Module, loader: DataLoader, device: torch.device) -> float:
    """Share of the images that the model puts into the class given with them."""
    model.eval()
    right = sum(int((model(x.to(device)).argmax(1) == y.to(device)).sum()) for x, y in loader)
    return right / len(loader.dataset)


if __name__ == "__main__":
    main()
