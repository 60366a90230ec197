// ws for Node.js: `node node_ws.js [--addr HOST:PORT] [--batched] [--deflate]`.
//
// Without flags as its documentation shows it. `--batched` corks the socket until the end of
// the turn, so that all answers to one read go out in one write. `--deflate` compresses every
// message at level 6 and keeps no context. `/broadcast` sends to all clients in a loop, as the
// documentation shows it, and `/rooms/N` to those of a room, of which each client is in ten.

'use strict';

const { WebSocket, WebSocketServer } = require('ws');

const args = process.argv.slice(2);
const at = args.indexOf('--addr');
const [host, port] = (at < 0 ? '127.0.0.1:0' : args[at + 1]).split(':');
const batched = args.includes('--batched');

const perMessageDeflate = args.includes('--deflate') && {
  threshold: 0,
  zlibDeflateOptions: { level: 6 },
  serverNoContextTakeover: true,
  clientNoContextTakeover: true,
};

const server = new WebSocketServer({ host, port: Number(port), perMessageDeflate }, () => {
  const { address, port } = server.address();
  console.log(`listening on ${address}:${port}`);
});

const rooms = new Map();

server.on('connection', (ws, request) => {
  const socket = request.socket;
  socket.setNoDelay(true);
  let corked = false;
  ws.on('error', () => {});
  if (request.url === '/broadcast') {
    ws.on('message', (data, binary) => {
      for (const client of server.clients) {
        if (client.readyState === WebSocket.OPEN) {
          client.send(data, { binary });
        }
      }
    });
    return;
  }
  if (request.url.startsWith('/rooms/')) {
    const own = Number(request.url.slice(7));
    for (let i = 0; i < 10; i += 1) {
      const room = (own + i * 1000) % 10000;
      rooms.set(room, (rooms.get(room) ?? new Set()).add(ws));
      ws.on('close', () => rooms.get(room).delete(ws));
    }
    ws.on('message', (data, binary) => {
      for (const client of rooms.get(own)) {
        if (client.readyState === WebSocket.OPEN) {
          client.send(data, { binary });
        }
      }
    });
    return;
  }
  ws.on('message', (data, binary) => {
    if (batched && !corked) {
      corked = true;
      socket.cork();
      setImmediate(() => {
        corked = false;
        socket.uncork();
      });
    }
    ws.send(data, { binary });
  });
});
