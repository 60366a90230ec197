// Chromium pages on two chats that share a Redis: chat_nodes_browser.js PROGRAM
const assert = require('node:assert');
const { once } = require('node:events');
const WebSocket = require('ws');
const { start, launch, until } = require('./browser.js');
const {
  DESKTOP, PHONE, accessible, exchange, fits, join, notes, people, screenshot, shows, state, step, tunnel,
} = require('./chat_page.js');
const { quietPort, redis } = require('./redis.js');

const program = process.argv[2];
// `CUT_OFF` of the example.
const LIMIT = 10_000;

async function main() {
  const engine = await redis();
  const node = async (address) => {
    const server = await start(program, { address, args: ['--redis', engine.url] });
    await until('the server to reach Redis', () => server.log.includes('topics reach the other nodes'));
    await probe(server, 200, 'ready');
    return server;
  };
  const a = await node(`127.0.0.1:${await quietPort()}`);
  let b = await node(`127.0.0.1:${await quietPort()}`);
  const browser = await launch();
  const errors = [];

  const open = async (address) => {
    const page = await (await browser.newContext({ viewport: DESKTOP })).newPage();
    page.setDefaultTimeout(15_000);
    page.on('pageerror', (error) => errors.push(error.message));
    page.on('console', (message) => {
      // Servers are killed here, which Chromium reports at its own time and in many words.
      const network = /WebSocket connection to|Failed to load resource/.test(message.text());
      if (message.type() === 'error' && !network) errors.push(message.text());
    });
    await page.goto(address);
    return page;
  };

  // Ada is on one, Cy on the other, and Ben's way leads to the other at first.
  const way = await tunnel(b.address);
  const [ada, ben, cy] = [await open(`http://${a.address}/`), await open(way.url), await open(`http://${b.address}/`)];
  const all = [ada, ben, cy];
  await join(ada, 'Ada');
  await join(ben, 'Ben');
  await join(cy, 'Cy');
  for (const page of all) await people(page, ['Ada', 'Ben', 'Cy']);
  await exchange(ada, 'Ada', ben, 'Hello from one');
  await exchange(ben, 'Ben', ada, 'Hello from the other');
  for (const [from, text] of [['Ada', 'Hello from one'], ['Ben', 'Hello from the other']]) await shows(cy, from, text);
  for (const one of [a, b]) await inRoom(one, 3);
  step('two servers with one Redis are one room, with the same people');

  await ben.setViewportSize(PHONE);
  for (const [page, name] of [[ada, 'desktop'], [ben, 'phone']]) {
    await fits(page);
    await accessible(page, `two servers, ${name}`);
    await screenshot(page, `nodes-${name}`);
  }

  // The server dies with Ben and Cy on it.
  const died = Date.now();
  way.cut();
  await b.stop('SIGKILL');
  for (const page of [ben, cy]) await state(page, 'connecting', 'closed');
  const missed = ['one', 'two', 'three'];
  for (const text of missed) {
    await ada.fill('#text', text);
    await ada.click('#send');
    await shows(ada, 'Ada', text);
  }
  way.heal(a.address);
  await back(ben);
  const BACK = 'You are back, 3 messages while you were away:';
  await until('the note that Ben is back', async () => (await notes(ben)).includes(BACK));
  for (const text of missed) await shows(ben, 'Ada', text);
  assert.deepStrictEqual((await texts(ben)).slice(-3), missed, 'what was missed comes in order');
  await exchange(ben, 'Ben', ada, 'I came over');
  step('who was on a server that died gets what was said meanwhile from the other one, once and in order');

  await until('Cy to go', async () => !(await list(ada)).some((name) => name.includes('Cy')), 20_000);
  const took = Date.now() - died;
  // 10 s, and what this machine needs beside.
  assert.ok(took < 15_000, `Cy went ${took} ms after the server`);
  await people(ada, ['Ada', 'Ben']);
  await inRoom(a, 2);
  step(`a server that died takes its people with it, after ${(took / 1000).toFixed(1)} s`);

  b = await node(b.address);
  await back(cy);
  for (const text of [...missed, 'I came over']) await shows(cy, text === 'I came over' ? 'Ben' : 'Ada', text);
  assert.deepStrictEqual((await texts(cy)).slice(-4), [...missed, 'I came over']);
  for (const page of all) await people(page, ['Ada', 'Ben', 'Cy']);
  for (const one of [a, b]) await inRoom(one, 3);
  await exchange(cy, 'Cy', ada, 'And here I am');
  step('a server that comes back knows who is where');

  // Dee is alone on a server in a room, and comes back to it while it cannot know what the room has.
  const aside = await tunnel(b.address);
  const dee = await open(aside.url);
  await join(dee, 'Dee', 'quiet room');
  const eve = new WebSocket(`ws://${a.address}/chat/quiet%20room?name=Eve`);
  const heard = [];
  eve.on('message', (data) => heard.push(JSON.parse(data).text));
  await once(eve, 'open');
  eve.send('{"text": "Before"}');
  await shows(dee, 'Eve', 'Before');

  const stopped = Date.now();
  await engine.stop();
  for (const one of [a, b]) await probe(one, 503, 'cut off from the other nodes');
  assert.ok(Date.now() - stopped >= LIMIT, 'the probe must not answer 503 before its limit');
  for (const page of all) {
    await state(page, 'open');
    await people(page, ['Ada', 'Ben', 'Cy']);
  }
  aside.cut();
  await state(dee, 'connecting', 'closed');
  aside.heal();
  await back(dee);
  const unchecked = (await notes(dee)).filter((text) => text.includes('could not be checked what was said'));
  assert.strictEqual(unchecked.length, 1, `${await notes(dee)}`);
  await engine.start();
  for (const one of [a, b]) await probe(one, 200, 'ready');
  aside.cut();
  await state(dee, 'connecting', 'closed');
  eve.send('{"text": "After"}');
  await until('the server to keep what Eve says', () => heard.includes('After'));
  aside.heal();
  await back(dee);
  await shows(dee, 'Eve', 'After');
  await exchange(ada, 'Ada', cy, 'Redis is back');
  await exchange(cy, 'Cy', ben, 'So it is');
  await shows(ada, 'Cy', 'So it is');
  for (const page of all) {
    await people(page, ['Ada', 'Ben', 'Cy']);
    assert.ok(!(await notes(page)).some((text) => text.includes('no longer kept')), 'the log was kept');
  }
  for (const one of [a, b]) await inRoom(one, 3);
  step('without Redis the probes say so after their limit, and with it all goes on');

  await browser.close();
  eve.terminate();
  for (const one of [way, aside]) one.stop();
  for (const one of [a, b]) {
    assert.strictEqual(await one.stop('SIGINT'), 0, 'Ctrl-C must end the server with 0');
    assert.match(one.log, /topics do not reach the other nodes: redis:/);
  }
  await engine.stop();
  assert.deepStrictEqual(errors, [], 'errors on the console');
  step('no errors on the console, and Ctrl-C ends the servers');
}

async function probe(server, status, text) {
  let answer;
  await until(`/readyz of ${server.address} to answer ${status}`, async () => {
    const response = await fetch(`http://${server.address}/readyz`);
    answer = [response.status, (await response.text()).trim()];
    return answer[0] === status;
  }, 30_000).catch((error) => assert.fail(`${error.message}; it answers ${answer}`));
  assert.strictEqual(answer[1], text);
}

// So many people are in the room, as a server knows it.
async function inRoom(server, people) {
  let rooms;
  await until(`${people} people in the tea room of ${server.address}`, async () => {
    rooms = await (await fetch(`http://${server.address}/rooms`)).json();
    return rooms.find(({ room }) => room === 'tea room')?.people === people;
  }).catch((error) => assert.fail(`${error.message}; it has ${JSON.stringify(rooms)}`));
}

// Is connected again. The page waits longer with each attempt, unless the network of the device comes back.
async function back(page) {
  await until('the page to be back', () => page.evaluate(() => {
    dispatchEvent(new Event('online'));
    return document.getElementById('status').dataset.state === 'open';
  }), 30_000);
}

function list(page) {
  return page.locator('#people > li').allInnerTexts();
}

function texts(page) {
  return page.locator('#messages > li .text').allTextContents();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
