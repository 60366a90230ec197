// Shared by the browser tests: an example server as a child, Chromium, a deadline.
const { spawn } = require('node:child_process');
const { once } = require('node:events');
const net = require('node:net');
const { chromium } = require('playwright-core');

// What Chromium says of a server that is gone or about to go: which of them depends on how far the
// connection was, one that was never accepted is reset and a later one refused.
const GONE = /ERR_CONNECTION_(REFUSED|RESET|CLOSED|ABORTED)|ERR_EMPTY_RESPONSE/;

// Starts an example; resolves when it listens.
async function start(program, { address = '127.0.0.1:0', args = [] } = {}) {
  const child = spawn(program, ['--addr', address, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  const server = { log: '', address: null };
  const exited = once(child, 'exit');
  server.stop = async (signal) => {
    process.off('exit', kill);
    child.kill(signal);
    const [code] = await within(10_000, exited, `${program} to end after ${signal}`);
    return code;
  };
  const kill = () => child.kill('SIGKILL');
  process.on('exit', kill);
  const listening = new Promise((resolve, reject) => {
    const read = (chunk) => {
      server.log += chunk;
      const match = server.log.match(/listening on \D*?([\d.]+:\d+)/);
      if (match) resolve(match[1]);
    };
    child.stdout.on('data', read);
    child.stderr.on('data', read);
    child.on('error', reject);
    exited.then(([code]) => reject(new Error(`${program} ended with ${code}:\n${server.log}`)), reject);
  });
  server.address = await within(10_000, listening, `${program} to listen`);
  return server;
}

async function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM,
    args: ['--disable-gpu', '--disable-quic'],
  });
}

// Awaits a promise for so long only.
function within(milliseconds, promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${milliseconds} ms for ${what}`)), milliseconds);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// Waits until a condition holds.
async function until(what, condition, milliseconds = 10_000) {
  const deadline = Date.now() + milliseconds;
  while (!await condition()) {
    if (Date.now() > deadline) throw new Error(`waited ${milliseconds} ms for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

// Whether a port of this machine is open.
function listens(port) {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1');
    socket.on('connect', () => resolve(true)).on('error', () => resolve(false));
    socket.on('connect', () => socket.destroy());
  });
}

module.exports = { GONE, launch, listens, start, until };
