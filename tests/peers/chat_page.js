// Shared by the browser tests of the chat: what they do with its page, and what they see of it.
const assert = require('node:assert');
const { once } = require('node:events');
const net = require('node:net');
const path = require('node:path');
const { until } = require('./browser.js');

const PHONE = { width: 390, height: 844 };
const DESKTOP = { width: 1280, height: 800 };

async function join(page, name, room = 'tea room') {
  await page.fill('#name', name);
  await page.fill('#room', room);
  await page.click('#join');
  await state(page, 'open');
}

// A way to the server that can be cut.
async function tunnel(address) {
  let [host, port] = address.split(':');
  let open = true;
  let stalled = false;
  const sockets = new Set();
  const server = net.createServer((socket) => {
    if (!open) return socket.destroy();
    const inner = net.connect(port, host);
    for (const one of [socket, inner]) {
      sockets.add(one);
      one.on('error', () => {});
      one.on('close', () => { sockets.delete(one); socket.destroy(); inner.destroy(); });
    }
    socket.on('data', (data) => { if (!stalled) inner.write(data); });
    inner.pipe(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const cut = () => {
    open = false;
    stalled = false;
    for (const socket of sockets) socket.destroy();
  };
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    cut,
    // From now on it may lead elsewhere.
    heal(to = address) {
      [host, port] = to.split(':');
      open = true;
    },
    // What clients send from now on is lost.
    stall() { stalled = true; },
    stop() { cut(); server.close(); },
  };
}

async function state(page, ...states) {
  const selector = states.map((name) => `#status[data-state=${name}]`).join();
  await page.waitForSelector(selector, { state: 'attached', timeout: 40_000 });
}

async function people(page, expected) {
  let names;
  await until(`${expected} in the list of people`, async () => {
    names = (await page.locator('#people > li').allInnerTexts()).map((text) => text.trim());
    return names.length === expected.length && expected.every((name) => names.some((text) => text.includes(name)));
  }).catch((error) => assert.fail(`${error.message}; it has ${JSON.stringify(names)}`));
}

// One says something; both see it, once.
async function exchange(page, from, other, text) {
  await page.fill('#text', text);
  await page.click('#send');
  await shows(page, from, text);
  await shows(other, from, text);
}

async function shows(page, from, text) {
  const messages = () => page.$$eval('#messages > li', (items) => items.map((item) => [
    item.querySelector('.from')?.textContent.trim(),
    item.querySelector('.text')?.textContent.trim(),
    item.querySelector('time')?.textContent.trim(),
  ]));
  const matching = async () => (await messages()).filter((message) => message[0] === from && message[1] === text);
  await until(`${JSON.stringify(text)} from ${from}`, async () => (await matching()).length > 0);
  const [[, , time], ...more] = await matching();
  assert.ok(time, `${JSON.stringify(text)} has no time`);
  assert.deepStrictEqual(more, [], `${JSON.stringify(text)} is shown more than once`);
}

async function notes(page) {
  return page.locator('#messages > li.note').allTextContents();
}

async function rooms(page) {
  return page.$$eval('#panel .rooms a', (all) => all.map((a) => a.firstChild.textContent));
}

async function accessible(page, what) {
  await page.addScriptTag({ path: require.resolve('axe-core/axe.min.js') });
  const { violations } = await page.evaluate(() => window.axe.run());
  const found = violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ html }) => html).join(' ')}`);
  assert.deepStrictEqual(found, [], `axe-core on ${what}`);
}

async function fits(page) {
  const [content, window] = await page.evaluate(
    () => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
  assert.ok(content <= window, `the page is ${content} px wide in a window of ${window}`);
}

async function screenshot(page, name) {
  await page.screenshot({ path: path.join(process.env.SCREENSHOTS, `${name}.png`) });
}

function step(what) {
  console.log(`  ok: ${what}`);
}

module.exports = {
  DESKTOP, PHONE, accessible, exchange, fits, join, notes, people, rooms, screenshot, shows, state, step, tunnel,
};
