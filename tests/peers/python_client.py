"""Python's websockets against the echo example: python_client.py HOST:PORT [--deflate]

With --deflate the example compresses, and so does every test: the client always offers it.
"""

import asyncio
import sys
import urllib.error
import urllib.request

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

MIB = 1024 * 1024
host, deflate = sys.argv[1], "--deflate" in sys.argv
echo = f"ws://{host}/echo"


async def expect_echo(ws, message):
    await ws.send(message)
    assert await ws.recv() == message


async def every_kind_of_message(path):
    async with connect(f"ws://{host}{path}") as ws:
        for message in "hello", "", "grüße, 世界 🦀", b"\x00\xff", b"", "x" * 65536:
            await expect_echo(ws, message)


async def test_text_and_binary():
    await every_kind_of_message("/echo")


async def test_text_and_binary_on_the_stream():
    await every_kind_of_message("/stream")


async def test_fragments_come_back_as_one_message():
    async with connect(echo) as ws:
        await ws.send(["gr\u00fc", "", "\u00dfe ", "\U0001f980"])
        assert await ws.recv() == "grüße 🦀"
        await ws.send([b"\x00" * 70000, b"\x01"])
        assert await ws.recv() == b"\x00" * 70000 + b"\x01"


async def test_a_message_of_1_mib():
    async with connect(echo) as ws:
        await expect_echo(ws, b"\xa5" * MIB)
        await expect_echo(ws, "ü" * (MIB // 2))


async def test_a_message_over_the_limit_closes_with_1009():
    async with connect(echo) as ws:
        try:
            await ws.send(b"\xa5" * (MIB + 1))
            await ws.recv()
        except ConnectionClosed as closed:
            assert closed.rcvd.code == 1009, closed
        else:
            raise AssertionError("it was taken")


async def test_pings_are_answered():
    async with connect(echo) as ws:
        for payload in b"", b"are you there", b"x" * 125:
            await asyncio.wait_for(await ws.ping(payload), 5)


async def test_close_codes_come_back():
    for code in 1000, 1001, 1011, 3000, 4999:
        ws = await connect(echo)
        await ws.close(code, "done")
        assert ws.close_code == code, ws.close_code


async def test_no_subprotocol_unless_the_application_selects_one():
    async with connect(echo, subprotocols=["chat", "superchat"]) as ws:
        assert ws.subprotocol is None
        await expect_echo(ws, "hello")


def extensions(ws):
    return ws.response.headers.get("Sec-WebSocket-Extensions")


async def test_compression_only_if_it_is_switched_on():
    async with connect(echo, compression="deflate") as ws:
        assert (extensions(ws) is not None) == deflate, extensions(ws)
        await expect_echo(ws, "hello")
    async with connect(f"ws://{host}/stream", compression="deflate") as ws:
        assert extensions(ws) is None, extensions(ws)


async def test_every_parameter_of_compression():
    if not deflate:
        return
    for server_bits in None, 9, 12, 15:
        for client_bits in None, True, 9, 12, 15:
            for server_alone in False, True:
                for client_alone in False, True:
                    offer = ClientPerMessageDeflateFactory(
                        server_no_context_takeover=server_alone,
                        client_no_context_takeover=client_alone,
                        server_max_window_bits=server_bits,
                        client_max_window_bits=client_bits,
                    )
                    async with connect(echo, compression=None, extensions=[offer]) as ws:
                        assert extensions(ws), offer.get_request_params()
                        for message in "", "hello " * 1000, b"\x00\xff" * 40000, "hello " * 1000:
                            await expect_echo(ws, message)
                        await ws.send(["one, ", "", "two"])
                        assert await ws.recv() == "one, two"


async def test_plain_http_on_the_same_port():
    with await asyncio.to_thread(urllib.request.urlopen, f"http://{host}/") as response:
        assert response.status == 200


async def test_origins():
    async with connect(echo, origin=f"http://{host}") as ws:
        await expect_echo(ws, "hello")
    for origin in "http://evil.example", f"http://{host}.evil.example", "null":
        try:
            await connect(echo, origin=origin)
        except InvalidStatus as refused:
            assert refused.response.status_code == 403, refused
        else:
            raise AssertionError(f"{origin} was let in")


async def test_an_outer_refusal_is_final():
    try:
        await connect(f"ws://{host}/guarded")
    except InvalidStatus as refused:
        assert refused.response.status_code == 403, refused
    else:
        raise AssertionError("/guarded was opened")


async def test_a_connection_that_vanishes():
    ws = await connect(echo)
    await ws.send("hello")
    ws.transport.abort()
    async with connect(echo) as ws:
        await expect_echo(ws, "still here")


async def test_many_at_once():
    async def one(n):
        async with connect(echo) as ws:
            messages = [f"{n}: {i}" for i in range(50)]
            for message in messages:
                await ws.send(message)
            assert [await ws.recv() for _ in messages] == messages

    await asyncio.gather(*map(one, range(50)))


async def main():
    failed = 0
    tests = {name: test for name, test in globals().items() if name.startswith("test_")}
    for name, test in tests.items():
        try:
            await asyncio.wait_for(test(), 30)
        except Exception as error:
            failed += 1
            print(f"  FAILED {name}: {error!r}")
    print(f"{len(tests) - failed} passed, {failed} failed")
    return failed


sys.exit(asyncio.run(main()) > 0)
