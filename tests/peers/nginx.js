// nginx as a child, with the given locations in its one server.
const { execFileSync, spawn } = require('node:child_process');
const { mkdtempSync, rmSync, writeFileSync } = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const { once } = require('node:events');
const { listens, until } = require('./browser.js');

async function nginx(locations) {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'nginx-'));
  const port = await freePort();
  const group = execFileSync('id', ['-gn'], { encoding: 'utf8' }).trim();
  const file = path.join(dir, 'nginx.conf');
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((name) => `${name}_temp_path ${dir}/${name};`);
  writeFileSync(file, `
    daemon off;
    user ${os.userInfo().username} ${group};
    pid ${dir}/nginx.pid;
    error_log stderr emerg;
    events {}
    http {
      access_log off;
      ${temporary.join('\n      ')}
      map $http_upgrade $connection_upgrade { default upgrade; '' close; }
      server { listen 127.0.0.1:${port}; ${locations} }
    }`);
  const child = spawn('nginx', ['-p', dir, '-e', 'stderr', '-c', file], { stdio: ['ignore', 'ignore', 'inherit'] });
  const stop = () => {
    child.kill();
    rmSync(dir, { recursive: true, force: true });
  };
  process.on('exit', stop);
  await until('nginx to listen', () => listens(port));
  return { url: `http://127.0.0.1:${port}/`, stop };
}

async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

module.exports = { nginx };
