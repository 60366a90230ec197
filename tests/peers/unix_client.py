"""Python's websockets against the example on a Unix domain socket: unix_client.py PROGRAM PATH"""

import asyncio
import os
import signal
import stat
import sys

from websockets.asyncio.client import unix_connect
from websockets.exceptions import ConnectionClosed

program, path = sys.argv[1:]


async def start():
    server = await asyncio.create_subprocess_exec(
        program, "--path", path, stdout=asyncio.subprocess.PIPE
    )
    line = await asyncio.wait_for(server.stdout.readline(), 10)
    assert line.startswith(b"listening at"), line
    return server


async def echoes():
    async with unix_connect(path, "ws://localhost/echo") as ws:
        for message in "hello", b"\x00\xff", "x" * 2**20:
            await ws.send(message)
            assert await ws.recv() == message


async def main():
    killed = await start()
    await echoes()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    second = await asyncio.create_subprocess_exec(
        program, "--path", path, stderr=asyncio.subprocess.DEVNULL
    )
    assert await asyncio.wait_for(second.wait(), 10) == 1, "it took the socket of a live server"
    killed.kill()
    await killed.wait()
    assert os.path.exists(path)

    # What the killed one left behind is no hindrance.
    server = await start()
    await echoes()
    ws = await unix_connect(path, "ws://localhost/echo")
    server.send_signal(signal.SIGINT)
    try:
        await asyncio.wait_for(ws.recv(), 10)
    except ConnectionClosed as closed:
        assert closed.rcvd.code == 1001, closed
    else:
        raise AssertionError("the drain said nothing")
    assert await asyncio.wait_for(server.wait(), 10) == 0
    assert not os.path.exists(path), "the socket was left behind"

    # Nor is a file of somebody else's taken away.
    with open(path, "w"):
        pass
    other = await asyncio.create_subprocess_exec(
        program, "--path", path, stderr=asyncio.subprocess.DEVNULL
    )
    assert await asyncio.wait_for(other.wait(), 10) == 1
    assert os.path.exists(path)
    print("  echo, a second server, a socket left behind, a drain, a file in the way: ok")


asyncio.run(main())
