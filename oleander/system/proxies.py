"""Server and clients talk to each other and to nobody else: the environment's proxies are for downloads of datasets alone.

Proxies, authorities and key logs in the environment reach every HTTP client of a process (httpx, requests, gRPC, urllib), and
some raise at what they find there (``ALL_PROXY=socks://…``). So they are put aside before anything reads them, in one variable
that child processes inherit too, and put back around a download.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping

ASIDE = "OLEANDER_DOWNLOAD_ENVIRONMENT"
AUTHORITIES = {"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"}
KEY_LOG = "SSLKEYLOGFILE"
"""Whoever reads this file reads the traffic; a run with --keys has its secrets nowhere."""
NOBODY = {"NO_PROXY": "*", "no_proxy": "*"}
"""Not the proxies of a system's settings either, which the environment takes the place of (macOS, Windows)."""


def talk_to_nobody_else() -> None:
    """Put this process's proxies aside."""
    ours = without_proxies(os.environ)
    for name in os.environ.keys() - ours.keys():
        del os.environ[name]
    os.environ.update(ours)


def without_proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment in which nobody finds a way but the direct one."""
    known = _aside(environment)
    found = {name: value for name, value in environment.items() if _diverts(name)}
    if ASIDE in environment:  # ours among them
        found = {name: value for name, value in found.items() if NOBODY.get(name) != value}
    kept = {name: value for name, value in environment.items() if not _diverts(name) and name != KEY_LOG}
    return kept | NOBODY | {ASIDE: json.dumps(known | found)}


@contextlib.contextmanager
def for_a_download() -> Iterator[None]:
    """The user's own proxies and authorities, while it lasts."""
    aside = _aside(os.environ)
    if ASIDE in os.environ:
        for name in NOBODY:
            os.environ.pop(name, None)
    os.environ.update(aside)
    try:
        yield
    finally:
        if ASIDE in os.environ:
            talk_to_nobody_else()


def _aside(environment: Mapping[str, str]) -> dict[str, str]:
    with contextlib.suppress(ValueError):
        known = json.loads(environment.get(ASIDE, "{}"))
        if isinstance(known, dict):
            return {str(name): str(value) for name, value in known.items()}
    return {}


def _diverts(name: str) -> bool:
    """As urllib looks for them: anything that ends in _proxy; but Ray's settings are not its."""
    lower = name.lower()
    return name in AUTHORITIES or (lower.endswith("_proxy") and not lower.startswith("ray_"))
