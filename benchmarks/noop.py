"""``python -m benchmarks.noop nothing FLAGS``: a run of simulate.py whose clients send the global model straight back.

With ``train`` in place of ``nothing`` they are the project's own; either way the memory of the processes is noted after each round.
"""

import json
import sys
import time
from pathlib import Path

import psutil
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from clients import app as honest
from oleander.settings.config import Experiment

app = ClientApp()


@app.query()
def identify(message: Message, context: Context) -> Message:
    """As the project's own clients."""
    return honest.identify(message, context)


@app.train()
def fit(message: Message, context: Context) -> Message:
    """Unpack the model and pack it again, as a client must, and nothing between."""
    began, arrays = time.time(), message.content["arrays"]
    experiment = Experiment.from_json(str(message.content["config"]["experiment"]))
    size = int(experiment.samples_per_client)  # the benchmark's are no ranges
    metrics = {"loss": 0.0, "images": float(experiment.local_epochs * size), "began": began, "num-examples": size}
    records = {"arrays": type(arrays)(arrays.to_numpy_ndarrays()), "metrics": MetricRecord(metrics)}
    return Message(RecordDict(records), reply_to=message)


def main(work: str, flags: list[str]) -> int:
    """Run, and note the memory beside each round's record: the server's own, and that of the clients' processes."""
    import simulate
    from benchmarks import noop
    from oleander.experiment.records import RoundRecord, RunFolder

    append = RunFolder.append

    def noted(folder: RunFolder, record: RoundRecord) -> None:
        append(folder, record)
        with Path(folder.path / "memory.jsonl").open("a") as file:
            file.write(json.dumps({"server": _own(psutil.Process()), "clients": _clients()}) + "\n")

    RunFolder.append = noted  # type: ignore[method-assign]
    return simulate.main(flags, noop.app if work == "nothing" else None)


def _own(process: psutil.Process) -> int:
    """Bytes that a process shares with no other."""
    return int(process.memory_full_info().uss)


def _clients() -> int:
    return sum(_own(p) for p in psutil.Process().children(recursive=True) if "ClientAppActor" in " ".join(p.cmdline()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
