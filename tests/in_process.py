"""A whole run without a program: its clients are the project's own, one after the other, in this process."""

import io
from pathlib import Path

from rich.console import Console

from oleander.experiment.federation import federate
from oleander.experiment.prepare import Sources, prepare
from oleander.experiment.progress import ProgressListener
from oleander.experiment.records import RunFolder
from oleander.settings.cli import parse
from tests.test_spaces import Here


def run_here(*flags, out: Path) -> str:
    """The run that simulate.py makes of these flags, in ``out``, without Flower's engine and Ray; returns what it said of its rounds.

    Wants the fixture ``task``.
    """
    said = io.StringIO()
    setup = prepare(parse([*map(str, flags)]), Sources(lambda text: None))
    folder = RunFolder(out)
    listener = ProgressListener(Console(file=said, width=130), setup.experiment)
    folder.write_summary(federate(Here(setup.experiment.clients_per_round), setup, folder, listener))
    folder.release()
    return said.getvalue()
