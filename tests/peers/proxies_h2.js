// WebSockets over HTTP/2 (RFC 8441, prior knowledge) to a proxy: proxies_h2.js HOST:PORT
// Node's own http2 opens the streams; the few frames that the checks need are made here.
const assert = require('node:assert');
const http2 = require('node:http2');
const { once } = require('node:events');

const host = process.argv[2];
const MIB = 1024 * 1024;
const [TEXT, BINARY, CLOSE, PING, PONG] = [1, 2, 8, 9, 10];

// The stream of an extended CONNECT, and the status that came.
async function connect(session, headers = {}) {
  const stream = session.request({
    ':method': 'CONNECT',
    ':protocol': 'websocket',
    ':scheme': 'http',
    ':authority': host,
    ':path': '/echo?token=x%2Fy',
    'sec-websocket-version': '13',
    ...headers,
  });
  const [response] = await once(stream, 'response');
  return [stream, response[':status']];
}

class Socket {
  static async open(session, headers) {
    const [stream, status] = await connect(session, headers);
    assert.strictEqual(status, 200);
    return new Socket(stream);
  }

  constructor(stream) {
    this.stream = stream;
    this.input = Buffer.alloc(0);
    this.chunks = stream[Symbol.asyncIterator]();
  }

  // One frame, masked with zeros.
  send(opcode, payload) {
    const header = Buffer.alloc(14);
    header[0] = 0x80 | opcode;
    header[1] = 0x80 | 127;
    header.writeBigUInt64BE(BigInt(payload.length), 2);
    if (payload.length >= 0x10000) return this.stream.write(Buffer.concat([header, payload]));
    header[1] = 0x80 | (payload.length < 126 ? payload.length : 126);
    if (payload.length < 126) return this.stream.write(Buffer.concat([header.subarray(0, 2), Buffer.alloc(4), payload]));
    header.writeUInt16BE(payload.length, 2);
    return this.stream.write(Buffer.concat([header.subarray(0, 4), Buffer.alloc(4), payload]));
  }

  async take(n) {
    while (this.input.length < n) {
      const { value, done } = await this.chunks.next();
      assert(!done, 'the stream ended');
      this.input = Buffer.concat([this.input, value]);
    }
    const taken = this.input.subarray(0, n);
    this.input = this.input.subarray(n);
    return taken;
  }

  async expect(opcode, payload) {
    const [first, second] = await this.take(2);
    let length = second;
    if (second === 126) length = (await this.take(2)).readUInt16BE();
    if (second === 127) length = Number((await this.take(8)).readBigUInt64BE());
    assert.strictEqual(first, 0x80 | opcode);
    const came = await this.take(length);
    assert(payload.equals(came.subarray(0, payload.length)), `${came.subarray(0, 32).toString('hex')} came`);
    return came;
  }

  async echo(opcode, payload) {
    this.send(opcode, payload);
    assert.strictEqual((await this.expect(opcode, payload)).length, payload.length);
  }

  // A Close frame with this code, and then the end of the stream, which is not a reset.
  async expectClose(code) {
    await this.expect(CLOSE, Buffer.of(code >> 8, code & 0xff));
    assert((await this.chunks.next()).done, 'something behind the Close frame');
    this.stream.end();
    if (!this.stream.closed) await once(this.stream, 'close');
    assert.strictEqual(this.stream.rstCode, http2.constants.NGHTTP2_NO_ERROR);
  }
}

const checks = {
  text: async (session) => {
    const socket = await Socket.open(session);
    for (const text of ['', 'grüße, 世界 🦀', 'x'.repeat(1000)]) await socket.echo(TEXT, Buffer.from(text));
  },
  'binary of 1 MiB': async (session) => {
    await (await Socket.open(session)).echo(BINARY, Buffer.alloc(MIB, 0xa5));
  },
  ping: async (session) => {
    const socket = await Socket.open(session);
    socket.send(PING, Buffer.from('are you there'));
    await socket.expect(PONG, Buffer.from('are you there'));
  },
  'close by the client': async (session) => {
    const socket = await Socket.open(session);
    socket.send(CLOSE, Buffer.of(4001 >> 8, 4001 & 0xff));
    await socket.expectClose(4001);
  },
  '1009 for a message over the limit': async (session) => {
    const socket = await Socket.open(session);
    socket.send(BINARY, Buffer.alloc(MIB + 1));
    await socket.expectClose(1009);
  },
  'two streams at once, with cookies in pieces': async (session) => {
    const headers = { cookie: ['a=1', 'b=2'] };
    const both = [await Socket.open(session, headers), await Socket.open(session, headers)];
    await Promise.all(both.map((socket, n) => socket.echo(TEXT, Buffer.from(`number ${n}`))));
  },
  'a foreign origin is refused': async (session) => {
    const [, status] = await connect(session, { origin: 'http://evil.example' });
    assert.strictEqual(status, 403);
  },
};

async function main() {
  const session = http2.connect(`http://${host}`);
  const [settings] = await once(session, 'remoteSettings');
  assert(settings.enableConnectProtocol, 'the proxy does not offer RFC 8441');
  let failed = 0;
  for (const [name, check] of Object.entries(checks)) {
    try {
      const late = new Promise((_, reject) => { setTimeout(reject, 5_000, new Error('no answer in 5 s')).unref(); });
      await Promise.race([check(session), late]);
    } catch (error) {
      failed += 1;
      console.log(`  FAILED ${name}: ${error.message}`);
    }
  }
  const all = Object.keys(checks).length;
  console.log(`  ${all - failed} of ${all} passed, ${failed} failed`);
  process.exit(Math.min(failed, 1));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
