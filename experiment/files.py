"""Files that are never half written."""

import os
from pathlib import Path

from experiment.errors import UserError


def absolute(path: str) -> Path:
    """A path as the user gave it, without ~, links and the current folder in it.

    Raises:
        UserError: ~ of a user that is not known, or links in a circle.
    """
    try:
        return Path(path).expanduser().resolve()
    except RuntimeError as error:
        raise UserError(f"{path}: {error}; a file whose name begins with ~ is ./{path}") from None


def replace_file(file: Path, content: bytes) -> None:
    """Write a file so that it is, whatever happens meanwhile, either as it was or whole."""
    scratch = file.with_name(f".{file.name}")
    try:
        with scratch.open("wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        scratch.replace(file)
    except BaseException:
        scratch.unlink(missing_ok=True)  # on a full disk it takes the last of the room
        raise
    directory = os.open(file.parent, os.O_RDONLY)  # the new name, too, must be on the disk
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
