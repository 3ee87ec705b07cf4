"""Files that are never half written, and never written through a link."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from oleander.system.errors import UserError
from oleander.system.foreign import reason

SUFFIXES = (".toml", ".json", ".jsonl", ".txt", ".csv", ".html", ".npz", ".safetensors", ".png", ".svg")
FOLDERS = ("figures", "runs")
"""What this program makes in the folder of a run or a study: files that end so, and these folders."""
LONGEST_NAME = 100
"""Characters of a name that is made from a setting."""


def absolute(path: str) -> Path:
    """A path as the user gave it, without ~, links and the current folder in it.

    Raises:
        UserError: ~ of a user that is not known, links in a circle, or a name that no file can have.
    """
    try:
        found = Path(path).expanduser().resolve()
        str(found).encode()  # records and pages are UTF-8
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            found.lstat()
    except RuntimeError as error:
        raise UserError(f"{path}: {error}; a file whose name begins with ~ is ./{path}") from None
    except UnicodeEncodeError:
        raise UserError(f"{path!r}: not named in UTF-8; rename it") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {reason(error)}") from None
    return found


def file_name(text: str) -> str:
    """A setting as part of a file's name: what could lead elsewhere, or cannot be in a name, is an underscore."""
    kept = "".join(c if c.isprintable() and c not in '/\\:*?"<>|' else "_" for c in text)[:LONGEST_NAME]
    return "_" + kept[1:] if kept.startswith(".") else kept


def own_folder(folder: Path) -> Path:
    """Make a folder, or take it where it is one; a link to one is not.

    Raises:
        OSError: it cannot be made, or something else is there.
    """
    with suppress(FileExistsError):
        folder.mkdir()
    if not stat.S_ISDIR(folder.lstat().st_mode):
        raise NotADirectoryError(20, "is not a folder of its own", str(folder))
    return folder


def check_own(folder: Path) -> None:
    """Refuse a folder in which something leads elsewhere or stands in the way, before anything is written to it.

    Links, symbolic or hard, would let what is written change a file outside; pipes and devices would not keep it.

    Raises:
        UserError: names the entry.
        OSError: it cannot be listed.
    """
    waiting = [folder]
    while waiting:
        for entry in os.scandir(waiting.pop()):
            info = entry.stat(follow_symlinks=False)
            if why := _not_ours(entry.name, info):
                raise UserError(f"{entry.path}: {why}; nothing is written to such a folder")
            if stat.S_ISDIR(info.st_mode):
                waiting.append(Path(entry.path))


def _not_ours(name: str, info: os.stat_result) -> str:
    """Why an entry of a run's or a study's folder is none that this program made; nothing, where it may be."""
    if stat.S_ISLNK(info.st_mode):
        return "is a link"
    if stat.S_ISDIR(info.st_mode):
        return "is a folder where a file belongs" if Path(name).suffix in SUFFIXES or name == ".lock" else ""
    if not stat.S_ISREG(info.st_mode):
        return "is not a regular file"
    if name in FOLDERS:
        return "is a file where a folder belongs"
    return "has another name elsewhere (a hard link)" if info.st_nlink > 1 else ""


@contextmanager
def appending(file: Path) -> Iterator[BinaryIO]:
    """A file of this program's, open for more at its end; made where it is not there, and never what a link leads to.

    Raises:
        OSError: it cannot be opened, or is not a regular file.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with os.fdopen(os.open(file, flags, 0o666), "ab") as opened:
        if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
            raise OSError(22, "is not a regular file", str(file))
        yield opened


def replace_file(file: Path, content: bytes) -> None:
    """Write a file so that it is, whatever happens meanwhile, either as it was or whole; a link there is replaced itself."""
    scratch = file.with_name(f".{file.name}")
    scratch.unlink(missing_ok=True)  # a left-over, or a link that would lead elsewhere
    try:
        with scratch.open("xb") as opened:
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
