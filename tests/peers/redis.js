// Redis as a child, which has what it has acknowledged when it is stopped and started again.
const { spawn } = require('node:child_process');
const { once } = require('node:events');
const { mkdtempSync, rmSync } = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { listens, until } = require('./browser.js');

async function redis() {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'redis-'));
  const port = await quietPort();
  const args = ['--port', port, '--bind', '127.0.0.1', '--dir', dir, '--save', '', '--appendonly', 'yes', '--appendfsync', 'always'];
  let child;
  const start = async () => {
    child = spawn('redis-server', args, { stdio: ['ignore', 'ignore', 'inherit'] });
    await until('Redis to listen', () => listens(port));
  };
  const stop = async () => {
    const exited = once(child, 'exit');
    child.kill();
    await exited;
  };
  process.on('exit', () => {
    child.kill('SIGKILL');
    rmSync(dir, { recursive: true, force: true });
  });
  await start();
  return { url: `redis://127.0.0.1:${port}`, start, stop };
}

// One that stays free while nobody listens there: the system gives those from 32768 on to whoever connects.
async function quietPort() {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    if (!await listens(port)) return port;
  }
}

module.exports = { quietPort, redis };
