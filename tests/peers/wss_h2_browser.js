// Chromium on the page of the wss example, where its WebSocket is a stream of
// the page's HTTP/2 connection (RFC 8441): wss_h2_browser.js PROGRAM
const { once } = require('node:events');
const path = require('node:path');
const WebSocket = require('ws');
const { start, launch, until } = require('./browser.js');

async function main() {
  const server = await start(process.argv[2]);
  const logged = (version) => server.log.split('\n')
    .some((line) => line.includes('/echo') && line.includes(version));
  const browser = await launch();
  const page = await (await browser.newContext({ ignoreHTTPSErrors: true })).newPage();
  await page.goto(`https://${server.address}/`);
  await page.waitForSelector('#status[data-state=open]', { state: 'attached' });
  await page.fill('#text', 'over HTTP/2: grüße 🦀');
  await page.click('#send');
  await until('the echo on the page', async () => (await page.textContent('#log')).includes('over HTTP/2: grüße 🦀'));
  await page.screenshot({ path: path.join(process.env.SCREENSHOTS, 'wss.png') });
  await until('HTTP/2.0 and /echo in the log', () => logged('HTTP/2.0'))
    .catch((error) => { throw new Error(`${error.message}; it says\n${server.log}`); });
  console.log('  ok: the WebSocket of a page over HTTP/2 uses RFC 8441');

  const ws = new WebSocket(`wss://${server.address}/echo`, { rejectUnauthorized: false });
  await once(ws, 'open');
  ws.send('over HTTP/1.1');
  await once(ws, 'message');
  ws.close();
  await once(ws, 'close');
  await until('HTTP/1.1 and /echo in the log', () => logged('HTTP/1.1'));
  console.log('  ok: HTTP/1.1 over TLS on the same port');
  await browser.close();
  await server.stop('SIGINT');
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
