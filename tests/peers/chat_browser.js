// Two Chromium pages in one room of the chat example: chat_browser.js PROGRAM
const assert = require('node:assert');
const { once } = require('node:events');
const path = require('node:path');
const WebSocket = require('ws');
const { start, launch, until } = require('./browser.js');

const program = process.argv[2];
const PHONE = { width: 390, height: 844 };
const DESKTOP = { width: 1280, height: 800 };

async function main() {
  let server = await start(program);
  const url = `http://${server.address}/`;
  const browser = await launch();
  const errors = [];
  let serverIsUp = true;

  const open = async () => {
    const page = await (await browser.newContext({ viewport: DESKTOP })).newPage();
    page.setDefaultTimeout(15_000);
    page.on('pageerror', (error) => errors.push(error.message));
    page.on('console', (message) => {
      // While the server is down, Chromium reports each attempt to connect.
      const attempt = /WebSocket connection to|ERR_CONNECTION_REFUSED/.test(message.text());
      if (message.type() === 'error' && (serverIsUp || !attempt)) errors.push(message.text());
    });
    await page.goto(url);
    return page;
  };
  const join = async (page, name) => {
    await page.fill('#name', name);
    await page.fill('#room', 'tea room');
    await page.click('#join');
    await state(page, 'open');
  };

  const ada = await open();
  await ada.setViewportSize(PHONE);
  await fits(ada);
  await screenshot(ada, 'join-light-phone');
  await ada.setViewportSize(DESKTOP);
  await join(ada, 'Ada');
  const ben = await open();
  await join(ben, 'Ben');
  await people(ada, ['Ada', 'Ben']);
  await people(ben, ['Ada', 'Ben']);
  await exchange(ada, 'Ada', ben, 'Hello, Ben!');
  await exchange(ben, 'Ben', ada, 'Hello, Ada! <img src=x onerror="document.title=1"> grüße 🦀');
  assert.strictEqual(await ada.locator('#messages img').count(), 0, 'a message was taken for HTML');
  step('two pages see each other and their messages');

  const raw = new WebSocket(`ws://${server.address}/chat/tea%20room?name=Raw`);
  const received = [];
  raw.on('message', (data) => received.push(JSON.parse(data)));
  await once(raw, 'open');
  await people(ada, ['Ada', 'Ben', 'Raw']);
  const bad = ['no JSON', '[]', '{}', '{"text": 7}', '{"text": null}', Buffer.of(0, 255)];
  for (const [n, message] of bad.entries()) {
    raw.send(message);
    const answers = () => received.filter(({ type, error }) => type === 'error' && error);
    await until(`an error in JSON for ${message}`, () => answers().length === n + 1);
  }
  raw.send('{"text": "and well"}');
  await shows(ben, 'Raw', 'and well');
  raw.terminate();
  await people(ben, ['Ada', 'Ben']);
  await exchange(ada, 'Ada', ben, 'What was that?');
  step('bad messages get an error and leave the room alone');

  serverIsUp = false;
  await server.stop('SIGKILL');
  for (const page of [ada, ben]) await state(page, 'connecting', 'closed');
  server = await start(program, { address: server.address });
  for (const page of [ada, ben]) await state(page, 'open');
  serverIsUp = true;
  await people(ada, ['Ada', 'Ben']);
  await exchange(ada, 'Ada', ben, 'The server is back');
  await exchange(ben, 'Ben', ada, 'So it is');
  step('the pages survive a restart of the server');

  await exchange(ben, 'Ben', ada, 'A long line of words that has to wrap somewhere on a phone, one hopes.');
  await exchange(ben, 'Ben', ada, 'x'.repeat(300));
  for (const colorScheme of ['light', 'dark']) {
    await ada.emulateMedia({ colorScheme });
    for (const [name, size] of [['phone', PHONE], ['desktop', DESKTOP]]) {
      await ada.setViewportSize(size);
      await fits(ada);
      await screenshot(ada, `chat-${colorScheme}-${name}`);
    }
  }
  step('nothing overflows on a phone or a desktop, light or dark');

  await browser.close();
  assert.strictEqual(await server.stop('SIGINT'), 0, 'Ctrl-C must end the server with 0');
  assert.deepStrictEqual(errors, [], 'errors on the console');
  step('no errors on the console, and Ctrl-C ends the server');
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

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
