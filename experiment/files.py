"""Files that are never half written."""

import os
from pathlib import Path


def replace_file(file: Path, content: bytes) -> None:
    """Write a file so that it is, whatever happens meanwhile, either as it was or whole."""
    scratch = file.with_name(f".{file.name}")
    with scratch.open("wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
    scratch.replace(file)
    directory = os.open(file.parent, os.O_RDONLY)  # the new name, too, must be on the disk
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
