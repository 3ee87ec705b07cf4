"""The server's last word to a client. Free of PyTorch: with Flower's own node, the process that waits for it never needs it.

It arrives as a message, in whatever process runs the ClientApp, and is put in a file, the ``mailbox`` of the node's config.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oleander.system.files import replace_file


def take_leave(farewell: Mapping[str, Any], node_config: Mapping[str, Any]) -> None:
    """Put the server's farewell where this client's process looks for it (``read_farewell``)."""
    if node_config.get("mailbox"):
        replace_file(Path(str(node_config["mailbox"])), json.dumps(dict(farewell)).encode())


def read_farewell(mailbox: Path) -> dict[str, Any] | None:
    """The farewell that came, once: why, and the exit code; None if none did."""
    try:
        farewell = json.loads(mailbox.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    mailbox.unlink()
    return dict(farewell)
