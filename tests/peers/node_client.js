// Node's ws against the echo example: node_client.js HOST:PORT [--deflate]
// With --deflate the example compresses, and so does every test: the client always offers it.
const assert = require('node:assert');
const http = require('node:http');
const { once } = require('node:events');
const test = require('node:test');
const WebSocket = require('ws');

const host = process.argv[2];
const deflate = process.argv.includes('--deflate');
const timeout = 30_000;

const sockets = [];
test.afterEach(() => sockets.splice(0).forEach((ws) => ws.on('error', () => {}).terminate()));

function socket(path, ...options) {
  const ws = new WebSocket(`ws://${host}${path}`, ...options);
  sockets.push(ws);
  return ws;
}

async function connect(path = '/echo', options = {}) {
  const ws = socket(path, options);
  await once(ws, 'open');
  return ws;
}

async function expectEcho(ws, message) {
  ws.send(message);
  const [data, isBinary] = await once(ws, 'message');
  assert.strictEqual(isBinary, typeof message !== 'string');
  assert.deepStrictEqual(isBinary ? data : data.toString(), message);
}

async function expectClose(ws, code) {
  const [received] = await once(ws, 'close');
  assert.strictEqual(received, code);
}

async function expectRefusal(path, options, status) {
  const ws = socket(path, options);
  ws.on('open', () => ws.emit('error', new Error(`${path} was opened`)));
  const [, response] = await once(ws, 'unexpected-response');
  assert.strictEqual(response.statusCode, status);
  response.destroy();
}

for (const path of ['/echo', '/stream']) {
  test(`text and binary on ${path}`, { timeout }, async () => {
    const ws = await connect(path);
    for (const message of ['hello', '', 'grüße, 世界 🦀', Buffer.of(0, 255), Buffer.alloc(0), 'x'.repeat(65536)]) {
      await expectEcho(ws, message);
    }
    ws.close(1000, 'done');
    await expectClose(ws, 1000);
  });
}

test('fragments come back as one message, a ping between them is answered', { timeout }, async () => {
  const ws = await connect();
  ws.send('one, ', { fin: false });
  ws.send('', { fin: false });
  ws.ping('between');
  const [payload] = await once(ws, 'pong');
  assert.strictEqual(payload.toString(), 'between');
  ws.send('two');
  const [data] = await once(ws, 'message');
  assert.strictEqual(data.toString(), 'one, two');
});

test('a message of 1 MiB', { timeout }, async () => {
  const ws = await connect();
  await expectEcho(ws, Buffer.alloc(1024 * 1024, 0xa5));
});

test('a message over the limit closes with 1009', { timeout }, async () => {
  const ws = await connect();
  ws.send(Buffer.alloc(1024 * 1024 + 1));
  await expectClose(ws, 1009);
});

test('close codes come back', { timeout }, async () => {
  for (const code of [1000, 1001, 1011, 3000, 4999]) {
    const ws = await connect();
    ws.close(code, 'done');
    await expectClose(ws, code);
  }
  const ws = await connect();
  ws.close(); // a Close frame without a code
  await expectClose(ws, 1005);
});

test('close codes that may not be sent are answered with 1002', { timeout }, async () => {
  for (const code of [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000]) {
    const ws = await connect();
    ws._socket.write(Buffer.of(0x88, 0x82, 0, 0, 0, 0, code >> 8, code & 255));
    await expectClose(ws, 1002);
  }
});

test('no subprotocol unless the application selects one', { timeout }, async () => {
  const ws = socket('/echo', ['chat', 'superchat']);
  ws.on('error', () => {}); // ws itself insists on one of those it offered
  const [response] = await once(ws, 'upgrade');
  assert.strictEqual(response.headers['sec-websocket-protocol'], undefined);
});

test('compression only if it is switched on', { timeout }, async () => {
  const extensions = async (path) => (await connect(path)).extensions;
  assert.strictEqual(await extensions('/echo'), deflate ? 'permessage-deflate' : '');
  assert.strictEqual(await extensions('/stream'), '');
});

test('every parameter of compression', { timeout, skip: !deflate }, async () => {
  for (const serverMaxWindowBits of [undefined, 9, 12, 15]) {
    for (const clientMaxWindowBits of [undefined, true, 9, 12, 15]) {
      for (const takeover of [true, false]) {
        const perMessageDeflate = {
          threshold: 0,
          serverMaxWindowBits,
          clientMaxWindowBits,
          serverNoContextTakeover: !takeover,
          clientNoContextTakeover: !takeover,
        };
        const ws = await connect('/echo', { perMessageDeflate });
        assert.strictEqual(ws.extensions, 'permessage-deflate');
        for (const message of ['', 'hello '.repeat(1000), Buffer.alloc(80_000, 7), 'hello '.repeat(1000)]) {
          await expectEcho(ws, message);
        }
        ws.send('one, ', { fin: false });
        ws.ping();
        ws.send('two');
        const [data] = await once(ws, 'message');
        assert.strictEqual(data.toString(), 'one, two');
        ws.terminate();
      }
    }
  }
});

test('plain HTTP on the same port', { timeout }, async () => {
  const [response] = await once(http.get(`http://${host}/`), 'response');
  assert.strictEqual(response.statusCode, 200);
  response.resume();
});

test('origins', { timeout }, async () => {
  const ws = await connect('/echo', { origin: `http://${host}` });
  await expectEcho(ws, 'hello');
  for (const origin of ['http://evil.example', `http://${host}.evil.example`, 'null']) {
    await expectRefusal('/echo', { origin }, 403);
  }
});

test('an outer refusal is final', { timeout }, () => expectRefusal('/guarded', {}, 403));

test('a connection that vanishes', { timeout }, async () => {
  const ws = await connect();
  ws.send('hello');
  ws._socket.resetAndDestroy();
  await expectClose(ws, 1006);
  const next = await connect();
  await expectEcho(next, 'still here');
});

test('many at once', { timeout }, async () => {
  await Promise.all(Array.from({ length: 50 }, async (_, n) => {
    const ws = await connect();
    const echoes = [];
    const all = new Promise((resolve) => ws.on('message', (data) => {
      if (echoes.push(data.toString()) === 50) resolve();
    }));
    const messages = Array.from({ length: 50 }, (_, i) => `${n}: ${i}`);
    messages.forEach((message) => ws.send(message));
    await all;
    assert.deepStrictEqual(echoes, messages);
    ws.close(1000);
    await expectClose(ws, 1000);
  }));
});
