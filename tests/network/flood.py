"""``python -m tests.network.flood PORT SECURE KEY POLLERS SILENT``: connections that come again as often as they are closed.

Pollers ask for /health on each connection as often as they are let; with a KEY they sign, and ask what a node asks. Silent ones
open a TCP connection and say nothing. They come from several addresses of this machine, its clients' among them.
"""

import asyncio
import contextlib
import ssl
import sys
from pathlib import Path

from flwr.supercore.date import now

PORT, SECURE = int(sys.argv[1]), sys.argv[2] == "tls"
KEY, POLLERS, SILENT = sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
OWN = [f"127.0.0.{number}" for number in range(1, 9)]
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
TLS.check_hostname, TLS.verify_mode = False, ssl.CERT_NONE
counts = {"opened": 0, "answered": 0}


def asks() -> bytes:
    if KEY == "-":
        return b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
    from oleander.network.keys import read_private
    from tests.network.test_gate import signed

    headers = "".join(f"{name}: {value}\r\n" for name, value in signed(read_private(Path(KEY)), now()).items())
    return f"POST /v1/fleet/pull-messages HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n{headers}\r\n".encode()


async def poll(number: int) -> None:
    ask = asks()
    while True:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            async with asyncio.timeout(60):
                own = (OWN[number % len(OWN)], 0)
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", PORT, ssl=TLS if SECURE else None, local_addr=own
                )
                counts["opened"] += 1
                try:
                    while True:
                        writer.write(ask)
                        await reader.readuntil(b"\r\n\r\n")
                        counts["answered"] += 1
                        await asyncio.sleep(0.5)
                finally:
                    writer.transport.abort()
        await asyncio.sleep(0.2)


async def be_silent(number: int) -> None:
    while True:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(60):
                own = (OWN[number % len(OWN)], 0)
                reader, writer = await asyncio.open_connection("127.0.0.1", PORT, local_addr=own)
                counts["opened"] += 1
                try:
                    await reader.read()
                finally:
                    writer.transport.abort()
        await asyncio.sleep(0.2)


async def main() -> None:
    tasks = [asyncio.create_task(poll(number)) for number in range(POLLERS)]
    tasks += [asyncio.create_task(be_silent(number)) for number in range(SILENT)]
    while True:
        await asyncio.sleep(1)
        print(f"flood: {counts['opened']} opened, {counts['answered']} answered", flush=True)
        for task in tasks:
            if task.done():
                task.result()


if __name__ == "__main__":
    asyncio.run(main())
