// Bun, whose WebSockets and topics are uWebSockets': `bun bun.js [--addr HOST:PORT]`.
//
// As its documentation shows it: an echo, and `server.publish` to a topic that all of `/broadcast`
// subscribe, or on `/rooms/N` to one of ten.

'use strict';

const args = process.argv.slice(2);
const at = args.indexOf('--addr');
const [hostname, port] = (at < 0 ? '127.0.0.1:0' : args[at + 1]).split(':');

const server = Bun.serve({
  hostname,
  port: Number(port),
  fetch(request, server) {
    const { pathname } = new URL(request.url);
    if (server.upgrade(request, { data: { pathname } })) {
      return undefined;
    }
    return new Response('plain\n');
  },
  websocket: {
    open(ws) {
      const [, kind, room] = ws.data.pathname.split('/');
      if (kind === 'broadcast') {
        ws.data.topic = 'all';
        ws.subscribe('all');
      } else if (kind === 'rooms') {
        ws.data.topic = `room:${room}`;
        for (let i = 0; i < 10; i += 1) {
          ws.subscribe(`room:${(Number(room) + i * 1000) % 10000}`);
        }
      }
    },
    message(ws, message) {
      if (ws.data.topic === undefined) {
        ws.send(message);
      } else {
        server.publish(ws.data.topic, message);
      }
    },
  },
});
console.log(`listening on ${server.hostname}:${server.port}`);
