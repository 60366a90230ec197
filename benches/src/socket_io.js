// Socket.IO for Node.js: `node socket_io.js [--addr HOST:PORT] [--redis URL]`, by WebSocket alone.
//
// What comes as the event `m` is emitted to a room, which the socket is in too: `all`, or with `room=N` in
// the query one of ten that it joins. `--redis` has @socket.io/redis-adapter between it and other nodes.

'use strict';

const { createServer } = require('http');
const { Server } = require('socket.io');

const args = process.argv.slice(2);
const value = (name, otherwise) => (args.includes(name) ? args[args.indexOf(name) + 1] : otherwise);
const [host, port] = value('--addr', '127.0.0.1:0').split(':');
const redis = value('--redis');

async function main() {
  const http = createServer();
  const io = new Server(http, { transports: ['websocket'] });
  if (redis) {
    const { createAdapter } = require('@socket.io/redis-adapter');
    const { createClient } = require('redis');
    const publisher = createClient({ url: redis });
    const subscriber = publisher.duplicate();
    await Promise.all([publisher.connect(), subscriber.connect()]);
    io.adapter(createAdapter(publisher, subscriber));
  }
  io.on('connection', (socket) => {
    const { room } = socket.handshake.query;
    const own = room === undefined ? 'all' : `room:${room}`;
    socket.join(own);
    for (let i = 1; room !== undefined && i < 10; i += 1) {
      socket.join(`room:${(Number(room) + i * 1000) % 10000}`);
    }
    socket.on('m', (text) => io.to(own).emit('m', text));
  });
  http.listen(Number(port), host, () => {
    const { address, port } = http.address();
    console.log(`listening on ${address}:${port}`);
  });
}

main();
