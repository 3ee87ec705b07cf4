"""What others made is data: files are read whole, within a limit and once, and their text is shown as text only."""

import io
import json
import os
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from oleander.system.errors import RunError, UserError

KIB, MIB, GIB = 2**10, 2**20, 2**30
LONGEST_REASON = 300
"""Characters of a library's own words that stand in an error."""


class BadFileError(OSError):
    """A file that is not to be read: says why."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.strerror = why


@contextmanager
def refusing(what: str, otherwise: str = "") -> Iterator[None]:
    """Whatever goes wrong while a foreign file is read is a refusal in one line: ``what: why; otherwise``.

    Raises:
        UserError: anything that was raised within, want of memory and of stack included.
    """
    try:
        yield
    except (UserError, RunError):
        raise
    except Exception as error:
        behind = f"; {otherwise}" if otherwise else ""
        raise UserError(f"{what}: {reason(error)}{behind}") from None


def reason(error: BaseException) -> str:
    """Why something failed, in a few words on one line."""
    if isinstance(error, OSError) and error.strerror:
        said = error.strerror
    elif isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        said = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    elif isinstance(error, RecursionError):
        said = "nested too deeply"
    elif isinstance(error, MemoryError):
        said = "takes more memory than there is"
    else:
        said = str(error) or type(error).__name__
    return shortened(plain(said.strip().partition("\n")[0]), LONGEST_REASON)


def what_it_is(head: bytes) -> str:
    """What a file that is not what it should be seems to be instead, by its first bytes; nothing where that is not known."""
    known = {
        b"version https://git-lfs": "; it is a pointer of Git LFS: git lfs pull fetches the file itself",
        b"/annex/": "; it is a pointer of git-annex: git annex get fetches the file itself",
        b"\x89HDF": "; it is an HDF5 file, as Keras writes",
        b"\x1f\x8b": "; it is packed (gzip): unpack it",
        b"PK\x03\x04": "; it is a ZIP archive",
    }
    if head.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")):
        return "; it is a web page, perhaps of a download that failed"
    return next((said for magic, said in known.items() if head.startswith(magic)), "")


def plain(text: object) -> str:
    """Text as a terminal, a page or a figure may hold it: without control, direction and other unprintable characters."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in str(text))


def shortened(text: str, most: int) -> str:
    """The text, cut off where it is longer than that."""
    return text if len(text) <= most else text[: most - 1] + "…"


def open_regular(file: Path, most: int, *, follow: bool = True) -> int:
    """A descriptor of a regular file, open for reading. Nothing that could block is waited for.

    Args:
        file: of anybody's.
        most: bytes that it may have.
        follow: whether it may be a link.

    Raises:
        OSError: it cannot be opened, is a folder, a pipe, a device or the like, or is larger.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    if not follow:
        flags |= getattr(os, "O_NOFOLLOW", 0)
    try:
        descriptor = os.open(file, flags)
    except ValueError as error:  # a NUL in its name
        raise BadFileError(reason(error)) from None
    try:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            raise BadFileError("is a folder" if stat.S_ISDIR(info.st_mode) else "is not a regular file")
        if info.st_size > most:
            raise BadFileError(f"has {info.st_size} bytes; at most {most} are read")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_bytes(file: Path, most: int, *, follow: bool = True) -> bytes:
    """The content of a regular file of no more than ``most`` bytes.

    Raises:
        OSError: as of ``open_regular``, or it grows or shrinks while it is read.
    """
    with os.fdopen(open_regular(file, most, follow=follow), "rb") as opened:
        size = os.fstat(opened.fileno()).st_size
        content = opened.read(size + 1)  # /proc says 0 of files that are not empty
        if len(content) != size:
            raise BadFileError("changed while it was read")
    return content


def parsed_json(content: bytes) -> Any:
    """JSON as the standard has it: no name twice in an object, no NaN, no infinite number.

    Raises:
        ValueError, RecursionError: it is something else.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name stands twice in an object")
        return found

    def no_number(name: str) -> float:
        raise ValueError(f"{name} is not a number")

    return json.loads(content.decode("utf-8"), object_pairs_hook=unique, parse_constant=no_number)


def check_unpacked(content: bytes) -> None:
    """Refuse a ZIP archive whose members are larger than it is: before anything of it is unpacked.

    This program and PyTorch store members as they are. One that is packed, or two that share their bytes, can hold a
    thousand times what the archive has.

    Raises:
        ValueError, zipfile.BadZipFile: members that are packed, encrypted or share bytes, or a name that is there twice.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
    names = {member.filename for member in members}
    if len(names) != len(members):
        raise ValueError("a name is twice in the archive")
    for member in members:
        if (
            member.compress_type != zipfile.ZIP_STORED
            or member.flag_bits & 1
            or member.file_size != member.compress_size
        ):
            raise ValueError(f"{plain(member.filename)[:60]} is packed or encrypted in the archive; it must be stored")
    if sum(member.file_size for member in members) > len(content):
        raise ValueError("the archive's members share their bytes")
