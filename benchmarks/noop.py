"""``python -m benchmarks.noop FLAGS``: a run of simulate.py whose clients send the global model straight back."""

import json
import sys
import time
from pathlib import Path

import psutil
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from clients import app as honest

app = ClientApp()


@app.query()
def identify(message: Message, context: Context) -> Message:
    """As the project's own clients."""
    return honest.identify(message, context)


@app.train()
def fit(message: Message, context: Context) -> Message:
    """Unpack the model and pack it again, as a client must, and nothing between."""
    began, arrays = time.time(), message.content["arrays"]
    metrics = MetricRecord({"loss": 0.0, "images": 0.0, "began": began, "num-examples": 1})
    return Message(
        RecordDict({"arrays": type(arrays)(arrays.to_numpy_ndarrays()), "metrics": metrics}), reply_to=message
    )


def main() -> None:
    """Run, and note the server's memory beside each round's record."""
    import simulate
    from benchmarks import noop
    from oleander.experiment.records import RoundRecord, RunFolder

    append = RunFolder.append

    def noted(folder: RunFolder, record: RoundRecord) -> None:
        append(folder, record)
        with Path(folder.path / "memory.jsonl").open("a") as file:
            file.write(json.dumps(psutil.Process().memory_full_info().uss) + "\n")

    RunFolder.append = noted  # type: ignore[method-assign]
    sys.exit(simulate.main(sys.argv[1:], noop.app))


if __name__ == "__main__":
    main()
