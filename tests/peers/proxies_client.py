"""Python's websockets against the echo example behind a proxy: proxies_client.py HOST:PORT

The example compresses (--deflate); only one check offers it. The example offers no subprotocol:
that check is counted as skipped. Prints each check that fails, and how many passed.
"""

import asyncio
import sys
import urllib.error
import urllib.request

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

MIB = 1024 * 1024
host = sys.argv[1]
SKIPPED = {"subprotocol"}


def open_echo(path="/echo", compression=None, **options):
    return connect(
        f"ws://{host}{path}", compression=compression, open_timeout=5, close_timeout=5, **options
    )


async def expect_echo(ws, message):
    await ws.send(message)
    assert await ws.recv() == message, "not what was sent"


async def expect_closed(ws, code):
    """The server's Close frame has the code, and a reason."""
    try:
        while True:
            await ws.recv()
    except ConnectionClosed as closed:
        assert closed.rcvd is not None, f"1006 and not {code}: {closed}"
        assert closed.rcvd.code == code and closed.rcvd.reason, closed


async def check_text():
    async with open_echo() as ws:
        for message in "hello", "", "x" * 65536:
            await expect_echo(ws, message)


async def check_multi_byte_text():
    async with open_echo() as ws:
        await expect_echo(ws, "grüße, 世界 🦀" * 1000)


async def check_binary_of_1_mib():
    async with open_echo() as ws:
        await expect_echo(ws, b"\xa5" * MIB)


async def check_fragments():
    async with open_echo() as ws:
        await ws.send([b"\x00" * 70000, b"", b"\x01"])
        assert await ws.recv() == b"\x00" * 70000 + b"\x01"


async def check_ping():
    async with open_echo() as ws:
        await asyncio.wait_for(await ws.ping(b"are you there"), 5)


async def check_compression():
    async with open_echo(compression="deflate") as ws:
        agreed = ws.response.headers.get("Sec-WebSocket-Extensions", "")
        assert "permessage-deflate" in agreed, f"{agreed!r}"
        await expect_echo(ws, "hello " * 10000)


async def check_subprotocol():
    async with open_echo(subprotocols=["chat"]) as ws:
        assert ws.subprotocol == "chat"


async def check_close_by_the_client():
    ws = await open_echo()
    await ws.close(4001, "done")
    assert ws.close_code == 4001, ws.close_code


async def check_close_by_the_server():
    async with open_echo() as ws:
        await ws.send(b"\xff", text=True)
        await expect_closed(ws, 1007)


async def check_1009_for_a_message_over_the_limit():
    async with open_echo() as ws:
        try:
            await ws.send(b"\xa5" * (MIB + 1))
        except ConnectionClosed:
            pass  # `recv` says the same.
        await expect_closed(ws, 1009)


async def check_cookies():
    async with open_echo(additional_headers={"Cookie": "a=1; b=2"}) as ws:
        await expect_echo(ws, "hello")


async def check_query():
    async with open_echo("/echo/room%201?token=x%2Fy&n=1") as ws:
        await expect_echo(ws, "hello")


async def refused(path, status, **options):
    try:
        await open_echo(path, **options)
    except InvalidStatus as refusal:
        assert refusal.response.status_code == status, refusal
    else:
        raise AssertionError("it was let in")


async def check_origins():
    async with open_echo(origin=f"http://{host}") as ws:
        await expect_echo(ws, "hello")
    await refused("/echo", 403, origin="http://evil.example")


async def check_a_refusal_by_an_outer_middleware():
    await refused("/guarded", 403)


async def check_a_plain_request():
    def get():
        with urllib.request.urlopen(f"http://{host}/", timeout=5) as response:
            return response.status

    assert await asyncio.to_thread(get) == 200


async def check_two_at_once():
    async with open_echo() as one, open_echo() as other:
        for i in range(50):
            await one.send(f"one {i}")
            await other.send(f"other {i}")
        for i in range(50):
            assert await other.recv() == f"other {i}"
            assert await one.recv() == f"one {i}"


async def main():
    failed = 0
    checks = {name[6:]: check for name, check in globals().items() if name.startswith("check_")}
    for name, check in checks.items():
        if name in SKIPPED:
            continue
        try:
            await asyncio.wait_for(check(), 10)
        except InvalidStatus as error:
            failed += 1
            body = error.response.body.decode().strip()
            print(f"  FAILED {name}: {error.response.status_code} {body}")
        except Exception as error:
            failed += 1
            print(f"  FAILED {name}: {error!r}")
    passed = len(checks) - len(SKIPPED) - failed
    print(f"  {passed} of {len(checks)} passed, {failed} failed, skipped: {', '.join(SKIPPED)}")
    return failed


sys.exit(asyncio.run(main()) > 0)
