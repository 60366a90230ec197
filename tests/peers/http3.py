"""aioquic and wsproto against the example of HTTP/3: http3.py PROGRAM

h2 and wsproto are the clients over HTTP/2 and HTTP/1.1, on the same port number.
"""

import asyncio
import contextlib
import re
import signal
import ssl
import sys

import h2.connection
import h2.events
import h2.settings
import wsproto
from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import ErrorCode, FrameType, H3Connection, Setting, encode_frame
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import (
    ConnectionTerminated,
    StopSendingReceived,
    StreamDataReceived,
    StreamReset,
)
from wsproto.connection import Connection, ConnectionType
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    Request,
    TextMessage,
)

program = sys.argv[1]
ALT_SVC = re.compile(r'h3=":(\d+)"; ma=\d+')
# For what comes at once unless something is broken.
SOON = 10


class Server:
    """The example, and the lines that it wrote."""

    def __init__(self, heartbeat):
        self.heartbeat = heartbeat
        self.lines = []
        self.more = asyncio.Condition()

    async def __aenter__(self):
        self.process = await asyncio.create_subprocess_exec(
            program,
            *("--addr", "127.0.0.1:0", "--heartbeat", str(self.heartbeat)),
            stdout=asyncio.subprocess.PIPE,
        )
        self.reader = asyncio.create_task(self.read())
        self.port = int((await self.line(r"listening on 127\.0\.0\.1:(\d+)")).group(1))
        return self

    async def __aexit__(self, *_):
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await self.reader

    async def read(self):
        while line := await self.process.stdout.readline():
            async with self.more:
                self.lines.append(line.decode())
                self.more.notify_all()

    async def line(self, pattern, skip=0):
        """The first line behind `skip` that has the pattern."""
        found = []

        def is_there():
            found[:] = filter(None, (re.search(pattern, line) for line in self.lines[skip:]))
            return found

        async with self.more:
            await asyncio.wait_for(self.more.wait_for(is_there), SOON)
        return found[0]


class Client(QuicConnectionProtocol):
    """A connection of HTTP/3."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self.streams = {}
        self.terminated = None
        self.muted = False

    def transmit(self):
        if not self.muted:
            super().transmit()

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated):
            self.terminated = event
            for stream in self.streams.values():
                stream.put_nowait(event)
        elif isinstance(event, (StreamReset, StopSendingReceived)):
            if event.stream_id in self.streams:
                self.streams[event.stream_id].put_nowait(event)
        for event in self.http.handle_event(event):
            if event.stream_id in self.streams:
                self.streams[event.stream_id].put_nowait(event)

    def request(self, method, path, *headers, end=True):
        """Begins a request; its events come in the queue."""
        stream_id = self._quic.get_next_available_stream_id()
        self.streams[stream_id] = asyncio.Queue()
        authority = f"127.0.0.1:{self.port}"
        head = [(":method", method), (":scheme", "https"), (":authority", authority), (":path", path)]
        head = [(name.encode(), value.encode()) for name, value in [*head, *headers]]
        self.http.send_headers(stream_id, head, end_stream=end)
        self.transmit()
        return stream_id

    async def response(self, stream_id):
        """Status and headers."""
        event = await asyncio.wait_for(self.streams[stream_id].get(), SOON)
        if isinstance(event, StopSendingReceived):
            # A refusal has no use for the rest of the request, which is no error (RFC 9114 §4.1).
            assert event.error_code == ErrorCode.H3_NO_ERROR, event
            event = await asyncio.wait_for(self.streams[stream_id].get(), SOON)
        assert isinstance(event, HeadersReceived), event
        headers = {name.decode(): value.decode() for name, value in event.headers}
        return int(headers.pop(":status")), headers

    async def get(self, path):
        stream_id = self.request("GET", path)
        status, headers = await self.response(stream_id)
        body, ended = b"", False
        while not ended:
            event = await asyncio.wait_for(self.streams[stream_id].get(), SOON)
            assert isinstance(event, DataReceived), event
            body, ended = body + event.data, event.stream_ended
        return status, headers, body

    def begin_websocket(self, *headers, path="/echo", protocol="websocket"):
        return self.request(
            "CONNECT",
            path,
            (":protocol", protocol),
            ("sec-websocket-version", "13"),
            *headers,
            end=False,
        )

    async def websocket(self, *headers):
        stream_id = self.begin_websocket(*headers)
        status, headers = await self.response(stream_id)
        assert status == 200, (status, headers)
        return WebSocket(self, stream_id)


@contextlib.asynccontextmanager
async def quic(server, protocol=Client, wait_connected=True, **options):
    options = {"verify_mode": ssl.CERT_NONE, "alpn_protocols": ["h3"], **options}
    ticket_handler = options.pop("ticket_handler", None)
    configuration = QuicConfiguration(is_client=True, **options)
    async with connect(
        *("127.0.0.1", server.port),
        configuration=configuration,
        create_protocol=protocol,
        session_ticket_handler=ticket_handler,
        wait_connected=wait_connected,
    ) as client:
        client.port = server.port
        yield client


class WebSocket:
    """wsproto on a stream of HTTP/3."""

    def __init__(self, client, stream_id):
        self.client, self.stream_id = client, stream_id
        self.protocol = Connection(ConnectionType.CLIENT)
        self.ended = False

    def raw(self, data, end=False):
        self.client.http.send_data(self.stream_id, data, end_stream=end)
        self.client.transmit()

    def send(self, message):
        event = TextMessage(message) if isinstance(message, str) else BytesMessage(message)
        self.raw(self.protocol.send(event))

    async def event(self):
        """What QUIC or HTTP/3 says next."""
        return await asyncio.wait_for(self.client.streams[self.stream_id].get(), SOON)

    async def receive(self):
        """The next message, or the Close frame. Answers pings."""
        parts = []
        while True:
            for event in self.protocol.events():
                if isinstance(event, Ping):
                    self.raw(self.protocol.send(event.response()))
                elif isinstance(event, (TextMessage, BytesMessage)):
                    parts.append(event.data)
                    if event.message_finished:
                        return parts[0][:0].join(parts)
                else:
                    return event
            data = await self.event()
            assert isinstance(data, DataReceived), data
            self.ended |= data.stream_ended
            self.protocol.receive_data(data.data)

    async def expect_echo(self, message):
        self.send(message)
        received = await self.receive()
        assert received == message, received


async def http1(server, *events):
    """A WebSocket over HTTP/1.1: what wsproto says to the echo of `hello`, and the headers."""
    context = tls("http/1.1")
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
    ws = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
    writer.write(ws.send(Request(host=f"127.0.0.1:{server.port}", target="/echo")))
    headers = {}
    while True:
        ws.receive_data(await asyncio.wait_for(reader.read(65536), SOON))
        for event in ws.events():
            if isinstance(event, AcceptConnection):
                headers = {name.decode().lower(): value.decode() for name, value in event.extra_headers}
                writer.write(ws.send(TextMessage("hello")))
            elif isinstance(event, TextMessage):
                writer.write(ws.send(CloseConnection(1000)))
                echo = event.data
            elif isinstance(event, CloseConnection):
                writer.close()
                return echo, headers
            else:
                raise AssertionError(event)


async def http2(server):
    """The same over HTTP/2."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=tls("h2"))
    http = h2.connection.H2Connection()
    http.initiate_connection()
    ws = Connection(ConnectionType.CLIENT)
    echo, headers = None, {}
    while True:
        writer.write(http.data_to_send())
        for event in http.receive_data(await asyncio.wait_for(reader.read(65536), SOON)):
            if isinstance(event, h2.events.RemoteSettingsChanged):
                enabled = event.changed_settings[h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL]
                assert enabled.new_value == 1
                head = [
                    (":method", "CONNECT"),
                    (":protocol", "websocket"),
                    (":scheme", "https"),
                    (":authority", f"127.0.0.1:{server.port}"),
                    (":path", "/echo"),
                    ("sec-websocket-version", "13"),
                ]
                http.send_headers(1, head)
            elif isinstance(event, h2.events.ResponseReceived):
                headers = {text(name): text(value) for name, value in event.headers}
                assert headers[":status"] == "200", headers
                http.send_data(1, ws.send(TextMessage("hello")))
            elif isinstance(event, h2.events.DataReceived):
                ws.receive_data(event.data)
                for event in ws.events():
                    if isinstance(event, TextMessage):
                        echo = event.data
                        http.send_data(1, ws.send(CloseConnection(1000)))
                    elif isinstance(event, CloseConnection):
                        writer.close()
                        return echo, headers


def text(value):
    return value.decode() if isinstance(value, bytes) else value


def tls(protocol):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([protocol])
    return context


async def test_one_port_number_serves_all_three_and_alt_svc_names_it(server):
    for version, client in ("HTTP/1.1", http1), ("HTTP/2.0", http2):
        skip = len(server.lines)
        echo, headers = await client(server)
        assert echo == "hello", echo
        assert ALT_SVC.fullmatch(headers["alt-svc"]).group(1) == str(server.port), headers
        await server.line(f"open over {version}", skip)
        await server.line("closed with 1000", skip)
    skip = len(server.lines)
    async with quic(server) as client:
        await (await client.websocket()).expect_echo("hello")
        await server.line("open over HTTP/3.0", skip)
        status, headers, body = await client.get("/")
        assert (status, body) == (200, b"HTTP/3.0\n"), (status, body)
        assert client.http.received_settings[Setting.ENABLE_CONNECT_PROTOCOL] == 1


async def test_every_kind_of_message(server):
    async with quic(server) as client:
        ws = await client.websocket()
        for message in "hello", "", "grüße, 世界 🦀", b"\x00\xff", b"", "x" * 65536, b"\xa5" * 2**20:
            await ws.expect_echo(message)


async def test_data_frames_are_no_boundary(server):
    async with quic(server) as client:
        ws = await client.websocket()
        for byte in ws.protocol.send(TextMessage("a byte at a time")):
            ws.raw(bytes([byte]))
            ws.raw(b"")
        assert await ws.receive() == "a byte at a time"


async def test_frames_of_unknown_kinds_are_skipped(server):
    async with quic(server) as client:
        ws = await client.websocket()
        for length in 0, 1, 1000, 60_000:
            frame = encode_frame(0x21, bytes(length))
            client._quic.send_stream_data(ws.stream_id, frame)
            await ws.expect_echo(f"behind {length}")


async def test_a_long_frame_is_not_kept(server):
    async with quic(server) as client:
        ws = await client.websocket()
        for kind in FrameType.HEADERS, 0x21:
            stream_id = client._quic.get_next_available_stream_id()
            client.streams[stream_id] = asyncio.Queue()
            head = encode_uint_var(kind) + encode_uint_var(2**30)
            client._quic.send_stream_data(stream_id, head + bytes(1000))
            client.transmit()
            # Well before the deadline for a head, 10 s.
            events = [await asyncio.wait_for(client.streams[stream_id].get(), 5) for _ in "12"]
            assert {type(event) for event in events} == {StreamReset, StopSendingReceived}, events
        await ws.expect_echo("of the same connection")


async def test_many_websockets_on_one_connection(server):
    async def one(client, n):
        ws = await client.websocket()
        for i in range(20):
            await ws.expect_echo(f"{n}: {i} " + "x" * 1000)

    async with quic(server) as client:
        await asyncio.gather(*(one(client, n) for n in range(50)))


async def test_refusals_are_responses(server):
    async with quic(server) as client:
        for expected, stream_id in [
            (403, client.begin_websocket(("origin", "https://evil.example"))),
            (404, client.begin_websocket(path="/elsewhere")),
            (404, client.begin_websocket(protocol="connect-udp")),
        ]:
            status, headers = await client.response(stream_id)
            assert status == expected, (status, expected, headers)
        ws = await client.websocket(("origin", f"https://127.0.0.1:{server.port}"))
        await ws.expect_echo("still here")


async def test_a_fin_follows_the_close_frame(server):
    async with quic(server) as client:
        skip = len(server.lines)
        ws = await client.websocket()
        ws.raw(ws.protocol.send(CloseConnection(4000, "done")))
        closed = await ws.receive()
        assert isinstance(closed, CloseConnection) and closed.code == 4000, closed
        while not ws.ended:
            data = await ws.event()
            assert isinstance(data, DataReceived) and not data.data, data
            ws.ended = data.stream_ended
        ws.raw(b"", end=True)
        await server.line("closed with 4000 by Peer", skip)


async def test_reset_stream_is_1006(server):
    async with quic(server) as client:
        other = await client.websocket()
        ws = await client.websocket()
        await ws.expect_echo("hello")
        skip = len(server.lines)
        client._quic.reset_stream(ws.stream_id, ErrorCode.H3_REQUEST_CANCELLED)
        client.transmit()
        await server.line("closed with 1006 by Transport", skip)
        # Our direction has no Close frame, and so no FIN.
        event = await ws.event()
        assert isinstance(event, StreamReset), event
        assert event.error_code == ErrorCode.H3_REQUEST_CANCELLED, event
        await other.expect_echo("of the same connection")


async def test_a_fin_without_a_close_frame_is_1006(server):
    async with quic(server) as client:
        ws = await client.websocket()
        await ws.expect_echo("hello")
        skip = len(server.lines)
        ws.raw(b"", end=True)
        await server.line("closed with 1006", skip)


async def test_the_end_of_the_connection_is_1006_for_each(server):
    async with quic(server) as client:
        for _ in range(3):
            await (await client.websocket()).expect_echo("hello")
        skip = len(server.lines)
    ends = set()
    while len(ends) < 3:
        line = await server.line("(.*) closed with 1006 by Transport", skip)
        ends.add(line.group(1))
        skip = server.lines.index(line.string) + 1


async def test_a_connect_in_early_data_is_refused(server):
    tickets = []
    async with quic(server, ticket_handler=tickets.append) as client:
        assert (await client.get("/"))[0] == 200
        while not tickets:
            await client.ping()
    assert tickets[0].max_early_data_size == 0xFFFFFFFF, tickets

    async with quic(server, wait_connected=False, session_ticket=tickets[0]) as client:
        page = client.request("GET", "/")
        connect = client.begin_websocket()
        # The client's part of the handshake stays here until the answers came: so what was sent was
        # early data to the server.
        client.muted = True
        try:
            assert (await client.response(page))[0] == 200
            assert (await client.response(connect))[0] == 425
        finally:
            client.muted = False
            client.transmit()
        await asyncio.wait_for(client.ping(), SOON)
        assert client._quic.tls.early_data_accepted
        await (await client.websocket()).expect_echo("hello")


async def test_a_websocket_survives_a_new_address(server):
    async with quic(server) as client:
        ws = await client.websocket()
        await ws.expect_echo("hello")
        skip = len(server.lines)
        old = client._transport
        await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: client, local_addr=("::ffff:127.0.0.1", 0)
        )
        assert client._transport.get_extra_info("sockname") != old.get_extra_info("sockname")
        old.close()
        client.change_connection_id()
        for i in range(20):
            await ws.expect_echo(f"{i} from elsewhere " + "x" * 10000)
        assert not any("closed" in line for line in server.lines[skip:]), server.lines[skip:]


async def quiet(server):
    """What a client hears in 7 s that says nothing by itself, where QUIC gives it 3 s."""
    async with quic(server, idle_timeout=3) as client:
        ws = await client.websocket()
        reading = asyncio.create_task(ws.receive())
        await asyncio.wait([reading], timeout=7)
        if reading.done():
            return f"ended: {reading.exception()}"
        ws.send("still here")
        return await asyncio.wait_for(reading, SOON)


async def test_the_heartbeat_keeps_quic_from_its_idle_timeout(server):
    async with Server(heartbeat=20) as without:
        kept, ended = await asyncio.gather(quiet(server), quiet(without))
        assert kept == "still here", kept
        assert "ConnectionTerminated" in ended, ended
        await without.line("closed with 1006 by Transport")


async def test_a_drain_closes_with_1001_and_ends_with_h3_no_error(_):
    async with Server(heartbeat=20) as server, quic(server) as client:
        ws = await client.websocket()
        await ws.expect_echo("hello")
        server.process.send_signal(signal.SIGINT)
        closed = await ws.receive()
        assert isinstance(closed, CloseConnection) and closed.code == 1001, closed
        ws.raw(ws.protocol.send(closed.response()), end=True)
        await asyncio.wait_for(client.wait_closed(), SOON)
        assert client.terminated.error_code == ErrorCode.H3_NO_ERROR, client.terminated
        assert await asyncio.wait_for(server.process.wait(), SOON) == 0
        await server.line("closed: 1,")


async def main():
    failed = 0
    tests = {name: test for name, test in globals().items() if name.startswith("test_")}
    async with Server(heartbeat=1) as server:
        for name, test in tests.items():
            try:
                await asyncio.wait_for(test(server), 60)
            except Exception as error:
                failed += 1
                print(f"  FAILED {name}: {error!r}")
    print(f"{len(tests) - failed} passed, {failed} failed")
    return failed


sys.exit(asyncio.run(main()) > 0)
