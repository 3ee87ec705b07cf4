"""Keys of what lies on disk, by which decoded images are found again in the cache without a look into any file."""

import hashlib
import os
from collections.abc import Collection, Iterable
from pathlib import Path

from oleander.datasets.downloads import Archive
from oleander.system.errors import UserError

MOST_FOLDERS = 100_000


def listing_key(root: Path, asked: str) -> str:
    """Hash of where a folder is and of its files' names, sizes and times: other files, another key. Folders of runs do not count.

    Args:
        root: the folder; it need not be there.
        asked: what asked for it, for messages.

    Raises:
        UserError: names that are not UTF-8, or more folders than any data have.
    """
    digest = hashlib.sha256()

    def add(text: str, path: Path) -> None:
        try:
            digest.update(text.encode())
        except UnicodeEncodeError:  # figures and pages can hold no such name
            raise UserError(f"{asked}: {str(path)!r} is not named in UTF-8; rename it") from None

    add(str(root.resolve()), root)
    seen: set[tuple[int, int]] = set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        itself = Path(folder).stat()
        if (itself.st_dev, itself.st_ino) in seen or _is_ours(names):  # a link that leads back; a run's results
            subfolders.clear()
            continue
        seen.add((itself.st_dev, itself.st_ino))
        subfolders.sort()
        if len(seen) > MOST_FOLDERS:
            raise UserError(f"{asked}: more than {MOST_FOLDERS} folders; do links lead out of it?")
        for name in sorted(names):
            file = Path(folder) / name
            info = file.stat() if file.exists() else file.lstat()  # a broken link: decoding it says so
            add(f"{folder}\0{name}\0{info.st_size}\0{info.st_mtime_ns}\n", file)
    return digest.hexdigest()


def _is_ours(names: Collection[str]) -> bool:
    """Whether a folder with files of these names is a run's or a study's, which grow beside the data and are none."""
    return "study.json" in names or {"config.toml", "environment.json"} <= set(names)


def files_key(archives: Iterable[Archive], *others: Path | str) -> str:
    """Hash of where these archives, and what is unpacked of them, are, and of all files' names, sizes and times.

    Args:
        archives: those of a dataset, there or not, with the files that torchvision unpacks from .gz beside them.
        others: folders and files, and words that choose among what they hold.
    """
    digest = hashlib.sha256()
    paths = [path for archive in archives for path in dict.fromkeys((archive.file, archive.file.with_suffix("")))]
    for other in (*paths, *others):
        if isinstance(other, str) or other.is_dir():
            digest.update(f"{other}\0{other if isinstance(other, str) else listing_key(other, str(other))}\n".encode())
        elif other.exists():
            info = other.stat()
            digest.update(f"{other.resolve()}\0{info.st_size}\0{info.st_mtime_ns}\n".encode())
    return digest.hexdigest()
