"""websockets for Python: python_websockets.py [--addr HOST:PORT] --deflate

As its documentation shows it; compresses every message at level 6 and keeps no context.
"""

import asyncio
import sys

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory


async def echo(ws):
    try:
        async for message in ws:
            await ws.send(message)
    except ConnectionClosed:
        pass


async def main():
    host, port = sys.argv[sys.argv.index("--addr") + 1].split(":")
    deflate = ServerPerMessageDeflateFactory(
        server_no_context_takeover=True,
        client_no_context_takeover=True,
        compress_settings={"level": 6},
    )
    async with serve(echo, host, int(port), compression=None, extensions=[deflate]) as server:
        host, port = server.sockets[0].getsockname()
        print(f"listening on {host}:{port}", flush=True)
        await server.serve_forever()


asyncio.run(main())
