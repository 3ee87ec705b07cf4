"""Archives of datasets in ``--data-dir``: whole by their MD5 sums, or downloaded, or refused soon with the other ways out."""

import http.client
import os
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from oleander.system.errors import UserError
from oleander.system.foreign import reason
from oleander.system.proxies import for_a_download

PROBE_SECONDS = 8.0
"""How long the hosts of a dataset may take to answer, together, before they count as unreachable."""
STALL_SECONDS = 20.0
"""How long a download may stand still."""


@dataclass(frozen=True)
class Archive:
    """A file that a dataset is published in."""

    file: Path
    """Where it is wanted, within --data-dir."""
    urls: tuple[str, ...]
    """Where it can be had; the second is tried where the first fails."""
    md5: str

    @property
    def whole(self) -> bool:
        """Whether it is there, byte for byte."""
        from torchvision.datasets.utils import check_integrity

        return check_integrity(str(self.file), self.md5)


def fetch(title: str, data_dir: Path, archives: Sequence[Archive], *, damaged: bool = False) -> None:
    """Download those archives that are not whole, after a quick look whether their host answers at all.

    Args:
        title: what the dataset is called, for messages.
        data_dir: of --data-dir.
        archives: all that it needs.
        damaged: whether something of it is there that cannot be read.

    Raises:
        UserError: says what was tried, and the other ways.
    """
    wanted = [archive for archive in archives if not archive.whole]
    damaged = damaged or any(archive.file.exists() for archive in wanted)
    tried = f"{title} is {'damaged' if damaged else 'not there'} in {data_dir}{os.sep}"
    with for_a_download():
        for archive in wanted:
            _download(archive, tried, _ways(data_dir, [a.file for a in wanted]))


def _ways(data_dir: Path, files: Sequence[Path]) -> str:
    names = ", ".join(str(file.relative_to(data_dir)) for file in files)
    return (
        "other ways: --dataset digits (real, no download), --dataset toy (drawn, no download), --dataset folder:DIR (any image folder), "
        f"or put {names} into --data-dir yourself"
    )


def _download(archive: Archive, tried: str, ways: str) -> None:
    """From the first address that gives it whole; all are looked at at once, so that a refusal does not take twice as long."""
    from torchvision.datasets.utils import download_url

    causes = _unreachable(archive.urls)
    if all(causes):
        asked = " and ".join(
            f"{url} could not be reached ({cause})" for url, cause in zip(archive.urls, causes, strict=True)
        )
        raise UserError(f"{tried} and {asked}; {ways}")
    failed = []
    default = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALL_SECONDS)
    try:
        for url in (url for url, cause in zip(archive.urls, causes, strict=True) if not cause):
            try:
                archive.file.parent.mkdir(parents=True, exist_ok=True)
                download_url(url, str(archive.file.parent), archive.file.name, archive.md5)
                return
            except Exception as error:  # of the network, the archive or the disk
                failed.append(f"{url} did not give it whole ({reason(error)})")
    finally:
        socket.setdefaulttimeout(default)
    raise UserError(f"{tried} and {' and '.join(failed)}; {ways}")


def _unreachable(urls: Sequence[str]) -> list[str]:
    """Why the host of each address cannot be reached, or nothing. Never takes longer than PROBE_SECONDS, names included."""
    causes = [f"no answer in {PROBE_SECONDS:.0f} s"] * len(urls)

    def ask(number: int, url: str) -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PROBE_SECONDS):
                causes[number] = ""
        except urllib.error.URLError as error:
            causes[number] = str(error.reason)
        except (OSError, ValueError, http.client.HTTPException) as error:
            causes[number] = str(error)

    # looking a name up has no timeout of its own
    asking = [threading.Thread(target=ask, args=args, daemon=True) for args in enumerate(urls)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join(PROBE_SECONDS)
    return list(causes)
