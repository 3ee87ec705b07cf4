"""The user's cache folder, and small things remembered in it from run to run."""

import json
import logging
import tempfile
from pathlib import Path
from typing import Any

import platformdirs

log = logging.getLogger("oleander")


def cache_dir() -> Path:
    """The user's cache folder of this program (on Linux $XDG_CACHE_HOME/oleander or ~/.cache/oleander)."""
    return Path(platformdirs.user_cache_dir("oleander", appauthor=False))


def recall(kind: str, key: str) -> Any:
    """What was remembered under this key; None where there is nothing, or nothing that can be read."""
    file = _file(kind, key)
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("cannot use the remembered %s %s (%s); working them out again", kind, file, error)
        return None


def remember(kind: str, key: str, content: Any) -> None:
    """Keep something for later runs; a cache that cannot be written is reported and costs nothing but time."""
    file = _file(kind, key)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False, encoding="utf-8") as scratch:
            json.dump(content, scratch)
        Path(scratch.name).replace(file)
    except OSError as error:
        log.warning("cannot remember %s in %s (%s)", kind, file, error)


def _file(kind: str, key: str) -> Path:
    return cache_dir() / kind / f"{key}.json"
