// Two Chromium pages on the chat of the wss example, where their WebSockets are streams of
// each page's HTTP/2 connection (RFC 8441): wss_h2_browser.js PROGRAM
const { once } = require('node:events');
const path = require('node:path');
const WebSocket = require('ws');
const { start, launch, until } = require('./browser.js');

async function main() {
  const server = await start(process.argv[2]);
  const logged = (version, route) => server.log.split('\n')
    .some((line) => line.includes(route) && line.includes(version));
  const browser = await launch();
  const join = async (name) => {
    const page = await (await browser.newContext({ ignoreHTTPSErrors: true })).newPage();
    page.setDefaultTimeout(15_000);
    await page.goto(`https://${server.address}/`);
    await page.fill('#name', name);
    await page.fill('#room', 'tea room');
    await page.click('#join');
    return page;
  };
  const [ada, ben] = [await join('Ada'), await join('Ben')];
  await until('Ben among the people on the page of Ada', async () => (await ada.textContent('body')).includes('Ben'));
  await ada.fill('#text', 'over HTTP/2: grüße 🦀');
  await ada.press('#text', 'Enter');
  await until('the message on the page of Ben', async () => (await ben.textContent('#messages')).includes('over HTTP/2: grüße 🦀'));
  await ben.screenshot({ path: path.join(process.env.SCREENSHOTS, 'wss.png') });
  await until('HTTP/2.0 and /chat/tea%20room in the log', () => logged('HTTP/2.0', 'CONNECT /chat/tea%20room'))
    .catch((error) => { throw new Error(`${error.message}; it says\n${server.log}`); });
  console.log('  ok: two pages chat over HTTP/2, by RFC 8441');

  const ws = new WebSocket(`wss://${server.address}/echo`, { rejectUnauthorized: false });
  await once(ws, 'open');
  ws.send('over HTTP/1.1');
  await once(ws, 'message');
  ws.close();
  await once(ws, 'close');
  await until('HTTP/1.1 and /echo in the log', () => logged('HTTP/1.1', 'GET /echo'));
  console.log('  ok: HTTP/1.1 over TLS on the same port');
  await browser.close();
  await server.stop('SIGINT');
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
