"""Flower's SuperLink, as the gate starts it: ``python -m oleander.network.link`` in place of ``flower-superlink``, with its flags.

Each request of Flower's goes through nine layers, and each layer is a task and two queues, whether it has to do with the
request or not: 6 of the 9 have nothing to do with what nodes ask (``/v1/fleet/``), 7 nothing with what the run's server asks
(``/v1/runtime/``), and most of a SuperLink's time went there. Here those are stepped around. What checks something stays: errors
are translated, messages parsed, and nodes' signatures checked as before; all else goes through all nine.

Written against flwr 1.41; ``tests/network/test_link.py`` compares the answers. With ``--stock``, Flower's own is run.
"""

import os
from collections.abc import Iterable, Mapping
from typing import Any

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

FLEET, RUNTIME = "/v1/fleet/", "/v1/runtime/"
IDLE = {
    "ControlSensitiveResponseMiddleware": (FLEET, RUNTIME),
    "ControlAuthenticationMiddleware": (FLEET, RUNTIME),
    "ControlLicenseMiddleware": (FLEET, RUNTIME),
    "ControlEventLogMiddleware": (FLEET, RUNTIME),
    "FleetEventLogMiddleware": (FLEET, RUNTIME),
    "NodeAuthMiddleware": (RUNTIME,),
    "RuntimeTracingMiddleware": (FLEET, RUNTIME),
}
"""Layer of Flower's → the paths that it only hands on: those of control look at ``/v1/control/`` alone; nothing is written to an
event log or traced, unless its flag or variable (``TOLD``) says so, and then nothing is stepped around."""
TOLD = ("--enable-event-log", "FLWR_ENABLE_EVENT_LOG", "FLWR_TRACING_ENABLED")


class Around:
    """A layer that requests for these paths do not meet."""

    def __init__(self, app: ASGIApp, layer: Middleware, paths: tuple[str, ...]) -> None:
        """``layer`` before ``app``."""
        self.app, self.paths = app, paths
        self.layered = layer.cls(app, *layer.args, **layer.kwargs)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on, through the layer or around it."""
        idle = scope["type"] == "http" and scope["path"].startswith(self.paths)
        await (self.app if idle else self.layered)(scope, receive, send)


def lighter(layers: Iterable[Middleware]) -> list[Middleware]:
    """The same layers in the same order, each only where it has something to do."""
    return [
        Middleware(Around, layer, IDLE[name]) if (name := getattr(layer.cls, "__name__", "")) in IDLE else layer
        for layer in layers
    ]


def main(arguments: list[str], environment: Mapping[str, str] = os.environ) -> Any:
    """Run Flower's program."""
    import flwr.superlink.main as flowers
    from flwr.superlink.cli import flower_superlink

    if not any(word in arguments or environment.get(word) == "1" for word in TOLD):
        layers = flowers._get_middleware
        flowers._get_middleware = lambda: lighter(layers())
    return flower_superlink()


if __name__ == "__main__":
    import sys

    sys.argv[0] = "flower-superlink"
    sys.exit(main(sys.argv[1:]))
