#!/usr/bin/env python3
"""nodes.py [--peers "ours socketioxide socket_io"] [--rounds N] [--seconds N] [--clients N] [--in-flight "1 16"]

One to many over two nodes with a Redis between them, beside the same on one node. It starts a Redis of its own
(`redis-server`), builds nothing (`run.sh` does, and installs what Node.js needs), and leaves each run's line of
JSON in `target/nodes.jsonl`.

`alone` is one node without Redis, `one` the same node with it, `two` has the publisher at one node and all other
clients at another. Nodes and Redis share a core, the load has another. At the end it counts what reaches a node
whose clients are in other rooms.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent.resolve()
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", HERE / "target")).resolve()
PROGRAMS = TARGET / "release"
PEERS = {
    "ours": [PROGRAMS / "ours", "--topics"],
    "socketioxide": [PROGRAMS / "socketioxide"],
    "socket_io": ["node", HERE / "src/socket_io.js"],
}
CASES = ("alone", "one", "two")
CORES = sorted(os.sched_getaffinity(0))
# What `load` sends, which repeats itself, and the characters that it repeats.
TEXT = bytes(ord("!") + i * 7 % 94 for i in range(512)).replace(b'"', b" ").replace(b"\\", b" ")
MARK = TEXT[:24]
REQUEST = (
    "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def pinned(core, command):
    return ["taskset", "-c", str(core), *map(str, command)]


@contextmanager
def process(command, **options):
    running = subprocess.Popen(pinned(CORES[0], command), stdout=subprocess.PIPE, text=True, **options)
    try:
        yield running
    finally:
        running.terminate()
        running.wait()
        running.stdout.close()


@contextmanager
def redis():
    """A server of our own, which keeps nothing on disk. Gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = ["redis-server", "--bind", "127.0.0.1", "--port", port, "--dir", folder, "--save", "", "--appendonly", "no"]
        with process(command) as running:
            for line in running.stdout:
                if "Ready to accept connections" in line:
                    break
            yield port


@contextmanager
def node(peer, port):
    """A server of the peer, with that Redis or with none. Gives its address and process id."""
    command = [*PEERS[peer], "--addr", "127.0.0.1:0"]
    if port:
        command += ["--redis", f"redis://127.0.0.1:{port}"]
    environment = {**os.environ, "NODE_PATH": str(TARGET / "node/node_modules")}
    with process(command, env=environment) as running:
        line = running.stdout.readline()
        if not line.startswith("listening on "):
            sys.exit(f"{peer} did not start")
        yield line.split()[-1], running.pid


def load(peer, *flags):
    command = [PROGRAMS / "load", "--broadcast", "--size", 512, "--kind", "text", *flags]
    if peer != "ours":
        command.append("--socketio")
    done = subprocess.run(pinned(CORES[-1], command), capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        sys.exit(f"{peer} failed: {done.stderr}")
    return json.loads(done.stdout)


def measure(peer, case, clients, in_flight, seconds):
    with ExitStack() as stack:
        port = None if case == "alone" else stack.enter_context(redis())
        address, pid = stack.enter_context(node(peer, port))
        flags = ["--addr", address, "--pid", pid, "--connections", clients, "--in-flight", in_flight]
        if case == "two":
            address, pid = stack.enter_context(node(peer, port))
            flags += ["--to", address, "--to-pid", pid]
        time.sleep(0.5)  # until the nodes have subscribed
        return load(peer, *flags, "--seconds", seconds)


class Relay:
    """Stands between a node and Redis, and counts what comes from Redis."""

    def __init__(self, port):
        self.port, self.messages, self.bytes = port, 0, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(("127.0.0.1", self.port))
            threading.Thread(target=self.copy, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self.copy, args=(server, client, True), daemon=True).start()

    def copy(self, source, sink, counted):
        held = b""
        try:
            while data := source.recv(65536):
                sink.sendall(data)
                if counted:
                    held += data
                    self.bytes += len(data)
                    self.messages += held.count(MARK)
                    held = held[max(held.rfind(MARK) + 1, len(held) - len(MARK) + 1) :]
        except OSError:
            pass


def join(peer, address, room):
    """A client of a room, which stays."""
    host, port = address.split(":")
    client = socket.create_connection((host, int(port)))
    path = f"/rooms/{room}" if peer == "ours" else f"/socket.io/?EIO=4&transport=websocket&room={room}"
    client.sendall(REQUEST.format(path=path).encode())
    while b"\r\n\r\n" not in client.recv(4096):
        pass
    if peer != "ours":
        client.sendall(bytes([0x81, 0x82, 0, 0, 0, 0]) + b"40")
    return client


def foreign(peer):
    """Messages that reach a node none of whose clients is in their room: (messages, bytes, of so many)."""
    with redis() as port:
        relay = Relay(port)
        with node(peer, port) as (address, pid), node(peer, relay.listener.getsockname()[1]) as (other, _):
            clients = [join(peer, other, room) for room in range(10)]
            time.sleep(1)
            before = relay.bytes
            flags = ["--addr", address, "--pid", pid, "--connections", 10, "--warm-up", 0, "--messages", 10_000]
            sent = load(peer, *flags)["messages"] / 10
            time.sleep(0.5)
            for client in clients:
                client.close()
            return relay.messages // TEXT.count(MARK), relay.bytes - before, sent


def report(runs, clients):
    head = ("peer", "case", "in flight", "messages/s", "µs A a message", "µs B a delivery", "p50 µs", "p99 µs")
    rows = [head]
    for (peer, case, in_flight), results in runs.items():
        rate = median(r["messages"] / clients / r["seconds"] for r in results)

        def least(name):
            return min(r[name] for r in results)

        # Of the publisher's node in all rounds: in one it may use less than the clock's tick of 10 ms.
        node_a = sum(r["cpu_us"] * r["messages"] for r in results) / sum(r["messages"] for r in results) * clients
        if case != "two":
            node_a = least("cpu_us") * clients
        node_b = f"{least('other_cpu_us') * clients / (clients - 1):.2f}" if case == "two" else "–"
        each = f"{node_a:,.0f}" if case == "two" else f"{node_a:,.0f} = {least('cpu_us'):.2f} a delivery"
        times = [f"{least(name):,.0f}" for name in ("p50_us", "p99_us")]
        rows.append((peer, case, str(in_flight), f"{rate:,.0f}", each, node_b, *times))
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)))


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--peers", default=" ".join(PEERS))
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--seconds", type=float, default=1.5)
    options.add_argument("--clients", type=int, default=500)
    options.add_argument("--in-flight", default="1 16")
    options = options.parse_args()
    peers = options.peers.split()
    runs = {}
    with open(TARGET / "nodes.jsonl", "w", encoding="utf-8") as out:
        for in_flight in map(int, options.in_flight.split()):
            for round_ in range(options.rounds):
                for case in CASES:
                    for peer in peers:
                        result = measure(peer, case, options.clients, in_flight, options.seconds)
                        runs.setdefault((peer, case, in_flight), []).append(result)
                        line = {"peer": peer, "case": case, "in_flight": in_flight, "round": round_, "result": result}
                        print(json.dumps(line), file=out, flush=True)
        print(f"{options.clients} clients, CPU and latency of the least of {options.rounds} rounds of {options.seconds} s")
        report(runs, options.clients)
        print("\nwhat reaches a node whose clients are in other rooms")
        for peer in peers:
            messages, size, sent = foreign(peer)
            print(f"  {peer}: {messages} of {sent:,.0f} messages, {size:,} bytes")
            print(json.dumps({"peer": peer, "foreign": messages, "of": sent, "bytes": size}), file=out)


if __name__ == "__main__":
    main()
