"""Archives of datasets in ``--data-dir``: whole by their MD5 sums, or downloaded, or refused soon with the other ways out."""

import http.client
import os
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from oleander.datasets.data import Images
from oleander.system.cache import is_kept
from oleander.system.errors import UserError
from oleander.system.foreign import reason
from oleander.system.proxies import for_a_download

PROBE_SECONDS = 8.0
"""How long the hosts of a dataset may take to answer, together, before they count as unreachable."""
STALL_SECONDS = 20.0
"""How long a download may stand still."""
OTHER_DATASETS = (
    "--dataset digits (real, no download), --dataset toy (drawn, no download), --dataset folder:DIR (any image folder)"
)
NOT_BY_HEAD = (403, 405, 501)
"""What a host says that answers, but not to this question."""


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

        return bool(check_integrity(str(self.file), self.md5))


def read_or_fetched(
    title: str,
    data_dir: Path,
    archives: Sequence[Archive],
    read: Callable[[], Images],
    unpacked: Sequence[Path] = (),
    unpack: Callable[[], object] = lambda: None,
) -> Images:
    """What ``read`` makes of the files that are there; where it cannot, the archives are downloaded, and it tries again.

    Args:
        title: what the dataset is called, for messages.
        data_dir: of --data-dir.
        archives: all that it needs.
        read: raises what it will where something is missing or damaged.
        unpacked: where else its files may lie.
        unpack: what is to be done with the archives before they can be read.

    Raises:
        UserError: it cannot be had, or not be read; says what was tried, and the other ways.
    """
    try:
        return read()
    except UserError:
        raise
    except RuntimeError:  # torchvision's, which asks for a download
        damage = "by its MD5 sums"
    except Exception as error:
        damage = reason(error)
    there = [place for place in (*unpacked, *(archive.file for archive in archives)) if os.path.lexists(place)]
    fetch(title, data_dir, archives, damage if there else "")
    try:
        unpack()
        return read()
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{title} in {data_dir}{os.sep} cannot be read ({reason(error)}); {_ways(data_dir, archives)}"
        ) from None


def fetch(title: str, data_dir: Path, archives: Sequence[Archive], damage: str = "") -> None:
    """Download those archives that are not whole, after a quick look whether their host answers at all.

    Args:
        title: what the dataset is called, for messages.
        data_dir: of --data-dir.
        archives: all that it needs.
        damage: what is wrong with what is there.

    Raises:
        UserError: says what was tried, and the other ways.
    """
    wanted = [archive for archive in archives if not archive.whole]
    tried = f"{title} is {f'damaged ({damage})' if damage else 'not there'} in {data_dir}{os.sep}"
    if not is_kept():
        raise UserError(f"{tried}, and a dry run downloads and unpacks nothing; {_ways(data_dir, archives)}")
    with for_a_download():
        for archive in wanted:
            _download(archive, tried, _ways(data_dir, wanted))


def _ways(data_dir: Path, archives: Sequence[Archive]) -> str:
    names = ", ".join(archive.file.relative_to(data_dir).as_posix() for archive in archives)
    return f"other ways: {OTHER_DATASETS}, or put {names} into --data-dir yourself"


def _download(archive: Archive, tried: str, ways: str) -> None:
    """From the first address that gives it whole."""
    from torchvision.datasets.utils import download_url

    causes = dict(zip(archive.urls, unreachable(archive.urls), strict=True))
    failed = [f"{url} could not be reached ({cause})" for url, cause in causes.items() if cause]
    default = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALL_SECONDS)
    try:
        for url in (url for url, cause in causes.items() if not cause):
            try:
                archive.file.parent.mkdir(parents=True, exist_ok=True)
                return download_url(url, str(archive.file.parent), archive.file.name, archive.md5)
            except Exception as error:  # of the network, the archive or the disk
                failed.append(f"{url} did not give it whole ({reason(error)})")
    finally:
        socket.setdefaulttimeout(default)
    raise UserError(f"{tried} and {' and '.join(failed)}; {ways}")


def unreachable(urls: Sequence[str]) -> list[str]:
    """Why the host of each address cannot be reached, or nothing; all are asked at once.

    Never takes longer than PROBE_SECONDS, names included.
    """
    causes = [f"no answer in {PROBE_SECONDS:.0f} s"] * len(urls)

    def ask(number: int, url: str) -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PROBE_SECONDS):
                causes[number] = ""
        except urllib.error.HTTPError as error:
            causes[number] = "" if error.code in NOT_BY_HEAD else f"{error.code} {error.reason}"
        except urllib.error.URLError as error:
            causes[number] = str(error.reason)
        except (OSError, ValueError, http.client.HTTPException) as error:
            causes[number] = str(error)

    # looking a name up has no timeout of its own
    asking = [threading.Thread(target=ask, args=(number, url), daemon=True) for number, url in enumerate(urls)]
    for thread in asking:
        thread.start()
    end = time.monotonic() + PROBE_SECONDS
    for thread in asking:
        thread.join(max(0.0, end - time.monotonic()))
    return list(causes)
