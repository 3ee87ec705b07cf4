"""The user's cache folder, and small things remembered in it from run to run.

What was remembered is believed only while it is what was written: each thing carries its name and a checksum.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import platformdirs

from oleander.system.foreign import MIB, parsed_json, read_bytes, reason

log = logging.getLogger("oleander")
Notify = Callable[[str], object]
"""Is told, in a sentence, what the user must know."""


def cache_dir() -> Path:
    """The user's cache folder of this program (on Linux $XDG_CACHE_HOME/oleander or ~/.cache/oleander)."""
    return Path(platformdirs.user_cache_dir("oleander", appauthor=False))


def place_in_cache(name: str, *, anew: bool = False) -> Path:
    """Where in the cache a thing of this name is, or is put; where nothing is to be kept, it is put into a folder that does not stay.

    Args:
        name: of a folder or file.
        anew: it is put there whatever is there.
    """
    path = cache_dir() / name
    return _ASIDE[-1] / name if _ASIDE and (anew or not stands(path)) else path


@contextlib.contextmanager
def nothing_kept() -> Iterator[None]:
    """While it lasts, nothing is written to the cache, and nothing is downloaded: what the cache has is used, the rest made anew."""
    with tempfile.TemporaryDirectory(prefix="oleander-") as folder:
        _ASIDE.append(Path(folder))
        try:
            yield
        finally:
            _ASIDE.pop()


def is_kept() -> bool:
    """Whether what is made or downloaded stays."""
    return not _ASIDE


_ASIDE: list[Path] = []


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """The same with a checksum over all of it."""
    return content | {"sha256": _checksum(content)}


def unsealed(found: Any) -> dict[str, Any]:
    """The inverse of ``sealed``.

    Raises:
        ValueError: it is not what was sealed.
    """
    content = dict(found) if isinstance(found, dict) else {}
    if content.pop("sha256", None) != _checksum(content):
        raise ValueError("its content has another checksum than it says")
    return content


def recall(kind: str, key: str, notify: Notify = log.warning) -> Any:
    """What was remembered under this key; None where there is nothing, or, as ``notify`` is told, nothing that can be used."""
    file = _file(kind, key)
    try:
        content = unsealed(parsed_json(read_bytes(file, MIB, follow=False)))
        if (content["kind"], content["key"]) != (kind, key):
            raise ValueError("it is of something else")
        return content["content"]
    except FileNotFoundError:
        return None
    except Exception as error:
        notify(f"cannot use the remembered {kind} {file} ({reason(error)}); working them out again")
        return None


def remember(kind: str, key: str, content: Any) -> None:
    """Keep something for later runs; a cache that cannot be written is reported and costs nothing but time."""
    if not is_kept():
        return
    file = _file(kind, key)
    text = json.dumps(sealed({"kind": kind, "key": key, "content": content}), allow_nan=False)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False, encoding="utf-8") as scratch:
            scratch.write(text)
        try:
            if file.is_dir() and not file.is_symlink():
                remove(file)
            Path(scratch.name).replace(file)
        finally:
            Path(scratch.name).unlink(missing_ok=True)
    except OSError as error:
        log.warning("cannot remember %s in %s (%s)", kind, file, error)


def remove(path: Path) -> None:
    """Remove whatever stands there, if it can be; what a link leads to stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def stands(path: Path) -> bool:
    """Whether anything stands there, a link to nothing included."""
    return os.path.lexists(path)


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _file(kind: str, key: str) -> Path:
    return cache_dir() / kind / f"{key}.json"
