// The operator's page in Chromium: find one connection, close it, see it go; then drain.
// operator_browser.js PROGRAM
const assert = require('node:assert');
const { once } = require('node:events');
const path = require('node:path');
const WebSocket = require('ws');
const { GONE, start, launch, until } = require('./browser.js');

const PHONE = { width: 390, height: 844 };

async function connect(address, room) {
  const socket = new WebSocket(`ws://${address}/echo/${room}`);
  socket.on('message', () => {});
  await once(socket, 'open');
  socket.send(room);
  await once(socket, 'message');
  return socket;
}

async function shoot(page, name) {
  const to = process.env.SCREENSHOTS;
  if (to) await page.screenshot({ path: path.join(to, `${name}.png`) });
}

async function main() {
  const server = await start(process.argv[2]);
  const url = `http://${server.address}/operator`;
  assert.strictEqual((await fetch(url)).status, 401);

  const browser = await launch();
  const credentials = { username: 'operator', password: 'secret' };
  const errors = [];
  let drains = false;
  const open = async (options) => {
    const context = await browser.newContext({ httpCredentials: credentials, ...options });
    const page = await context.newPage();
    page.setDefaultTimeout(15_000);
    page.on('pageerror', (error) => errors.push(error.message));
    page.on('console', (message) => {
      // A server that has drained is gone, and the page asks it once more.
      const expected = drains && GONE.test(message.text());
      if (message.type() === 'error' && !expected) errors.push(message.text());
    });
    await page.goto(url);
    return page;
  };
  const sockets = [];
  for (const room of ['tea', 'coffee', '%3Cb%3Emilk']) sockets.push(await connect(server.address, room));
  const page = await open({ viewport: { width: 1280, height: 800 } });
  const rows = () => page.locator('#rows tr');
  await until('three rows', async () => await rows().count() === 3);
  assert.strictEqual(await page.textContent('#count'), '3');

  // Topics: the largest, and who subscribes one.
  await until('three topics', async () => await page.locator('#topics li').count() === 3);
  assert.match(await page.textContent('#topics summary'), /^3 topics, 3 subscriptions; messages stay in this process$/);
  await page.click('#topics summary');
  await page.locator('#topics li').getByRole('button', { name: 'tea' }).click();
  await until('the one of that topic', async () => await rows().count() === 1);
  assert.match(await rows().first().locator('td[data-name=topics]').textContent(), /^tea$/);
  await page.fill('#search', '');
  await until('three rows', async () => await rows().count() === 3);

  // Sorted by what came, the longest first; searched by the path.
  await page.click('th[data-key=received] button');
  await until('the order', async () => (await rows().first().textContent()).includes('%3Cb%3Emilk'));
  await page.fill('#search', 'coffee');
  await until('one row', async () => await rows().count() === 1);

  // Closed by the button: the client hears it, the row goes, the others stay.
  const closed = once(sockets[1], 'close');
  await rows().first().getByRole('button', { name: 'Close' }).click();
  assert.strictEqual((await closed)[0], 1012);
  await until('no row', async () => {
    await page.click('#refresh');
    return await rows().count() === 0;
  });
  await page.fill('#search', '');
  await until('two rows', async () => await rows().count() === 2);
  assert.strictEqual(sockets[0].readyState, WebSocket.OPEN);

  // A page elsewhere cannot press it.
  const foreign = await (await browser.newContext({ httpCredentials: credentials })).newPage();
  await foreign.route('http://elsewhere.test/', (route) => route.fulfill({ body: '<p>', contentType: 'text/html' }));
  await foreign.goto('http://elsewhere.test/');
  await foreign.evaluate((to) => fetch(to, { method: 'POST', mode: 'no-cors', credentials: 'include' }).catch(() => {}), `${url}?drain=1`);
  assert.strictEqual((await fetch(`http://${server.address}/ready`)).status, 200);

  // On a phone the heads of the table give way to a choice, and nothing is wider than the screen.
  assert(!await page.isVisible('#sort'));
  for (const colorScheme of ['light', 'dark']) {
    const phone = await open({ viewport: PHONE, colorScheme });
    await phone.waitForSelector('#rows tr');
    assert(!await phone.isVisible('#head'));
    const first = () => phone.locator('#rows tr').first().textContent();
    for (const [key, room] of [['received', '%3Cb%3Emilk'], ['age', '/echo/tea']]) {
      await phone.selectOption('#sort', key);
      await until(`sorted by ${key}`, async () => (await first()).includes(room));
    }
    const wide = await phone.evaluate(() => document.documentElement.scrollWidth);
    assert(wide <= PHONE.width, `${wide} px`);
    await shoot(phone, `operator_phone_${colorScheme}`);
  }
  await shoot(page, 'operator');

  const metrics = await (await fetch(`http://${server.address}/metrics`)).text();
  assert.match(metrics, /^websocket_server_active_connections 2$/m);
  assert.match(metrics, /^websocket_server_closed_connections\{cause="application"\} 1$/m);

  // The drain asks first, and the clients are told.
  drains = true;
  page.on('dialog', (dialog) => dialog.accept('10'));
  const left = Promise.all([once(sockets[0], 'close'), once(sockets[2], 'close')]);
  await page.click('#drain');
  for (const [code] of await left) assert.strictEqual(code, 1001);
  await server.stop('SIGKILL').catch(() => {});
  await browser.close();
  assert.deepStrictEqual(errors, []);
  console.log('ok');
}

main().then(() => process.exit(0), (error) => {
  console.error(error);
  process.exit(1);
});
