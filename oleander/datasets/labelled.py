"""Pictures in a folder for each class: which files below it are images of the dataset, and what is left out and told.

Hidden names (``.thumbnails``, ``._1.png``) and what systems put beside pictures are no images. A real file counts once, in the class
in whose own folders it lies, however many links lead to it; links are followed, but not back.
"""

import os
import re
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from oleander.datasets.pictures import ENDINGS
from oleander.system.errors import UserError
from oleander.system.foreign import plain, shortened

MOST_FOLDERS = 100_000
SYSTEMS_OWN = ("__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found", "thumbs.db",
               "ehthumbs.db", "desktop.ini", "icon\r")  # fmt: skip
"""Names, in small letters, that systems put beside pictures without hiding them."""
SHOWN = 5
Real = tuple[int, int]
"""A file or folder itself, whatever leads to it: its device and number there."""
Waiting = deque[tuple[Path, int]]
"""Files and folders that are still to be looked at, each with the number of its class."""


@dataclass
class Labelled:
    """The files of a split."""

    classes: tuple[str, ...]
    files: list[tuple[Path, int]] = field(default_factory=list)
    """Each with the number of its class; by class, then by folder and name."""
    real: set[Real] = field(default_factory=set)
    hidden: Counter[str] = field(default_factory=Counter)
    """Files left out, by the hidden name that they have or lie below."""
    unread: Counter[str] = field(default_factory=Counter)
    """Files that are no pictures, by how their names end."""
    again: list[Path] = field(default_factory=list)
    """Links, and hard links, to what is there already."""


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is no data."""
    return name.startswith(".") or name.casefold() in SYSTEMS_OWN


def in_order(names: Sequence[str]) -> tuple[str, ...]:
    """Classes in the order of their numbers: as text, and where all are whole numbers, as numbers (2 before 10)."""
    if all(re.fullmatch(r"[+-]?\d{1,18}", name, re.ASCII) for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def labelled(split: Path, asked: str) -> Labelled:
    """The pictures below the folders of a split, each folder a class.

    Args:
        split: a folder.
        asked: what asked for it, for messages.

    Raises:
        UserError: a name that is not UTF-8, or more folders than anybody has pictures.
        OSError: a folder that cannot be listed.
    """
    shown = [entry for entry in _entries(split) if not is_hidden(entry.name)]
    found = Labelled(in_order([entry.name for entry in shown if entry.is_dir()]))
    _count_hidden(split, found)
    found.unread.update(_ending(entry.name) for entry in shown if not entry.is_dir())
    visited = {_real(folder) for folder in (split, *split.resolve().parents)}
    links = deque((split / name, label) for label, name in enumerate(found.classes) if (split / name).is_symlink())
    folders = deque(
        (split / name, label) for label, name in enumerate(found.classes) if not (split / name).is_symlink()
    )
    _walk(found, folders, links, visited, asked)
    found.files.sort(key=lambda file: (file[1], str(file[0].parent), file[0].name))
    return found


def below(folder: Path, asked: str) -> Labelled:
    """The pictures in a folder and below, all of one class. Raises as ``labelled`` does."""
    found = Labelled(("",))
    visited = {_real(parent) for parent in folder.resolve().parents}
    _walk(found, deque([(folder, 0)]), deque(), visited, asked)
    found.files.sort()
    return found


def _walk(found: Labelled, folders: Waiting, links: Waiting, visited: set[Real], asked: str) -> None:
    """Take what lies in these folders and below: first that, then what links lead to, so that no class takes another's."""
    while folders or links:
        path, label = folders.popleft() if folders else links.popleft()
        if not path.is_dir():
            _take(path, label, found, asked)
        elif (real := _real(path)) in visited:
            found.again.append(path)
        else:
            visited.add(real)
            if len(visited) > MOST_FOLDERS:
                raise UserError(f"{asked}: more than {MOST_FOLDERS} folders; does a link lead out of it ({path})?")
            _count_hidden(path, found)
            for entry in (entry for entry in _entries(path) if not is_hidden(entry.name)):
                if entry.is_symlink():
                    links.append((Path(entry.path), label))
                elif entry.is_dir():
                    folders.append((Path(entry.path), label))
                else:
                    _take(Path(entry.path), label, found, asked)


def notices(train: Labelled, test: Labelled, root: str) -> list[str]:
    """What must be known of what was left out, each kind in a sentence; nothing where nothing was."""
    said = left_out((train, test), "in the folder of a class, ")
    if shared := len(train.real & test.real):
        said.append(f"test images that are training images too, by links: {shared} of {len(test.files)}")
    if order := _order(train.classes):
        said.append(order)
    return [f"{root}: {text}." for text in said]


def left_out(parts: Sequence[Labelled], where: str = "") -> list[str]:
    """Of hidden names, other files and links, how many were left out; ``where`` pictures are looked for."""
    hidden, unread = (sum((getattr(part, kind) for part in parts), Counter[str]()) for kind in ("hidden", "unread"))
    again = [path for part in parts for path in part.again]
    said = []
    if hidden.total():
        said.append(f"hidden files left out: {hidden.total()} ({_named(sorted(hidden))})")
    if unread.total():
        kinds = sorted(unread.items(), key=lambda item: (-item[1], item[0]))
        told = _named([f"{count} {ending or 'without an ending'}" for ending, count in kinds])
        said.append(f"files not read: {unread.total()} ({told}); read are, {where}{' '.join(ENDINGS)}")
    if again:
        said.append(f"links to what is read already: {len(again)} ({_named([str(again[0])])}); each file counts once")
    return said


def _order(classes: Sequence[str]) -> str:
    """What must be known of the classes' order, where text and numbers would have another one."""
    if list(classes) != sorted(classes):
        return (
            "its classes are named by numbers and stand in the order of these, 2 before 10; weights of a program that sorts "
            "them as text, as torchvision's ImageFolder does, have them in another"
        )
    moved = [(name, other) for name, other in zip(classes, sorted(classes, key=_natural), strict=True) if name != other]
    if not moved:
        return ""
    return f"its classes are in the order of text, {plain(moved[0][0])} before {plain(moved[0][1])}; --target takes their names"


def _natural(name: str) -> list[tuple[int, str]]:
    """By it the numbers within names sort as numbers."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", name)]


def _take(path: Path, label: int, found: Labelled, asked: str) -> None:
    """A file, if it is a picture by its name and not there already; what cannot be opened is refused when it is decoded."""
    if path.suffix.lower() not in ENDINGS:
        found.unread[_ending(path.name)] += 1
        return
    try:
        str(path).encode()
    except UnicodeEncodeError:  # figures and pages can hold no such name
        raise UserError(f"{asked}: {str(path)!r} is not named in UTF-8; rename it") from None
    try:
        real = _real(path)
    except OSError:
        found.files.append((path, label))
        return
    if real in found.real:
        found.again.append(path)
    else:
        found.real.add(real)
        found.files.append((path, label))


def _count_hidden(folder: Path, found: Labelled) -> None:
    for entry in _entries(folder):
        if is_hidden(entry.name):
            found.hidden[entry.name] += _below(entry)


def _below(entry: "os.DirEntry[str]") -> int:
    """How many files a hidden name stands for."""
    if entry.is_symlink() or not entry.is_dir():
        return 1
    return sum(len(names) for _, _, names in os.walk(entry.path))


def _entries(folder: Path) -> "list[os.DirEntry[str]]":
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _real(path: Path) -> Real:
    info = path.stat()
    return info.st_dev, info.st_ino


def _ending(name: str) -> str:
    return shortened(plain(Path(name).suffix.lower()), 20)


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(shortened(plain(name), 120) for name in names[:SHOWN])
    return f"{shown} …" if len(names) > SHOWN else shown
