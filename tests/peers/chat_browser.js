// Chromium pages in rooms of the chat example, direct and behind nginx: chat_browser.js PROGRAM
const assert = require('node:assert');
const { once } = require('node:events');
const WebSocket = require('ws');
const { GONE, start, launch, until } = require('./browser.js');
const {
  DESKTOP, PHONE, accessible, exchange, fits, join, notes, people, rooms, screenshot, shows, state, step, tunnel,
} = require('./chat_page.js');
const { nginx } = require('./nginx.js');

const program = process.argv[2];
// What is a link in a message, and what must not be one.
const LINKS = [
  ['http://127.0.0.1:9/a?b=1&c=%222', 'http://127.0.0.1:9/a?b=1&c=%222'],
  ['https://example.org/film_(1982)', 'https://example.org/film_(1982)'],
  ['https://example.org', 'https://example.org/'],
  ['HTTPS://EXAMPLE.org/ü', 'https://example.org/%C3%BC'],
  ['http://example.org/x\'onclick=alert(1)', 'http://example.org/x\'onclick=alert(1)'],
];
// What was kept is gone with a server, so the page cannot say that nothing was missed.
const RESTARTED = 'You are back. What was said while you were away is no longer kept.';
const HOSTILE = `${LINKS[0][0]}, ${LINKS[1][0]}, (${LINKS[2][0]}). ${LINKS[3][0]}! ${LINKS[4][0]}`
  + ' <a href="javascript:alert(1)">https://</a> javascript:alert(1) javascript://example.org data:text/html,x http://'
  + ' https://[ file:///etc/passwd xhttp://example.org';

async function main() {
  let server = await start(program);
  const url = `http://${server.address}/`;
  const browser = await launch();
  const errors = [];
  let serverIsUp = true;
  const FORWARDED = `
    proxy_http_version 1.1;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $connection_upgrade;`;
  const proxy = await nginx(`
    location /x/ { proxy_pass ${url}; proxy_set_header Host $http_host; ${FORWARDED} }
    location /without-host/ { proxy_pass ${url}; ${FORWARDED} }
    location /without-upgrade/ { proxy_pass ${url}; proxy_set_header Host $http_host; }`);

  const open = async (address = url, { refused = false } = {}) => {
    const page = await (await browser.newContext({ viewport: DESKTOP })).newPage();
    page.setDefaultTimeout(15_000);
    page.on('pageerror', (error) => errors.push(error.message));
    page.on('console', (message) => {
      // While the server is down or refuses, Chromium reports each attempt to connect.
      const attempt = GONE.test(message.text()) || /WebSocket connection to|502 \(Bad Gateway\)/.test(message.text());
      const expected = attempt && (refused || !serverIsUp);
      if (message.type() === 'error' && !expected) errors.push(message.text());
    });
    await page.goto(address);
    return page;
  };

  const ada = await open();
  await ada.setViewportSize(PHONE);
  await fits(ada);
  await accessible(ada, 'the join page');
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

  const cy = await open(`${proxy.url}x/`);
  await join(cy, 'Cy', 'Küche 50% #2?');
  await cy.click('#leave');
  assert.strictEqual(cy.url(), `${proxy.url}x/`, 'leaving must stay under the prefix');
  await cy.goto(`${proxy.url}x/chat/tea%20room`);
  assert.strictEqual(cy.url(), `${proxy.url}x/#tea%20room`, 'the address of a room must lead to its page');
  await join(cy, 'Cy');
  await exchange(cy, 'Cy', ada, 'Hello from behind a prefix');
  await until('the rooms behind the prefix', async () => (await rooms(cy)).includes('tea room'));
  await cy.context().close();
  await until('a line that Cy left', async () => (await notes(ada)).some((text) => text.includes('Cy left')));
  step('the page works under a prefix behind nginx');

  // Who has not been in the room yet is told why, and what to try.
  for (const [place, expected] of [['without-host', /proxy_set_header Host/], ['without-upgrade', /Upgrade and Connection/]]) {
    const page = await open(`${proxy.url}${place}/`, { refused: true });
    await refused(page, expected);
    await fits(page);
    await accessible(page, `the page ${place}`);
    await screenshot(page, `refused-${place}`);
    await page.context().close();
  }
  // A bad name gets the server's own words, which the browser keeps from the page.
  const answer = await fetch(`${url}chat/a%2Fb?name=x`, { headers: { accept: 'text/plain' } });
  const why = `${answer.status} ${await answer.text()}`;
  assert.match(why, /^400 a room is .* without a slash/);

  // Ben's way to the server is cut while Ada talks, and comes back.
  const way = await tunnel(server.address);
  const gwen = await open(way.url, { refused: true });
  await join(gwen, 'Gwen');
  await exchange(gwen, 'Gwen', ada, 'I hear you');
  const calm = [await notes(ada), await notes(gwen)];
  way.cut();
  await state(gwen, 'connecting', 'closed');
  for (const text of ['one', 'two', 'three']) {
    await ada.fill('#text', text);
    await ada.click('#send');
    await shows(ada, 'Ada', text);
  }
  way.heal();
  await state(gwen, 'open');
  for (const text of ['one', 'two', 'three']) await shows(gwen, 'Ada', text);
  await exchange(gwen, 'Gwen', ada, 'Nothing is missing');
  assert.deepStrictEqual(await notes(gwen), [...calm[1], 'You are back, 3 messages while you were away:']);
  await screenshot(gwen, 'back-desktop');
  // What is on its way when the way is cut is kept or given back, and never said twice.
  await gwen.fill('#text', 'Is this lost?');
  way.stall();
  await gwen.click('#send');
  way.cut();
  way.heal();
  await state(gwen, 'open');
  await until('the text in the box', async () => await gwen.inputValue('#text') === 'Is this lost?');
  await gwen.click('#send');
  await shows(ada, 'Gwen', 'Is this lost?');
  step('who was cut off gets what was said meanwhile, once and in order, and what did not arrive is given back');

  // A reload, and a second tab of the same name.
  await gwen.reload();
  await state(gwen, 'open');
  const twin = await open(way.url);
  await join(twin, 'Gwen');
  await people(ada, ['Ada', 'Ben', 'Gwen']);
  await exchange(twin, 'Gwen', ada, 'From the other tab');
  await shows(gwen, 'Gwen', 'From the other tab');
  await twin.context().close();
  await exchange(gwen, 'Gwen', ada, 'Still here');
  assert.deepStrictEqual(await notes(ada), calm[0], 'a cut, a reload and a second tab are no coming and going');
  await gwen.context().close();
  await until('a line that Gwen left', async () => (await notes(ada)).some((text) => text.includes('Gwen left')), 20_000);
  way.stop();
  step('presence does not flap: a cut, a reload and two tabs of one name are one person');

  const [direct, behind] = [await open(url, { refused: true }), await open(`${proxy.url}x/`, { refused: true })];

  serverIsUp = false;
  const before = [await notes(ada), await notes(ben)];
  await server.stop('SIGINT');
  await refused(direct, /does not answer\. Is the server running/);
  await refused(behind, /with 502: the proxy is there, the chat behind it is not/);
  for (const page of [ada, ben]) {
    await state(page, 'connecting', 'closed');
    assert.strictEqual(await page.textContent('#why'), '', 'a connection that worked needs no advice');
  }
  server = await start(program, { address: server.address });
  for (const page of [ada, ben, direct, behind]) await state(page, 'open');
  assert.strictEqual(await direct.textContent('#why'), '', 'the reason must go when it is over');
  for (const page of [direct, behind]) await page.context().close();
  step('a first connection that does not work says why, and what to try');

  await server.stop('SIGKILL');
  for (const page of [ada, ben]) await state(page, 'connecting', 'closed');
  server = await start(program, { address: server.address });
  for (const page of [ada, ben]) await state(page, 'open');
  serverIsUp = true;
  await people(ada, ['Ada', 'Ben']);
  await people(ben, ['Ada', 'Ben']);
  await exchange(ada, 'Ada', ben, 'The server is back');
  await exchange(ben, 'Ben', ada, 'So it is');
  for (const [n, page] of [ada, ben].entries()) {
    const after = [...before[n], RESTARTED, RESTARTED];
    assert.deepStrictEqual(await notes(page), after, 'nobody has come or left');
  }
  step('the pages survive restarts of the server, after which nobody has left');

  const guest = async (room, name) => {
    const socket = new WebSocket(`ws://${server.address}/chat/${encodeURIComponent(room)}?name=${name}`);
    await once(socket, 'open');
    return socket;
  };
  const elsewhere = () => Promise.all(['room 10', 'room 2', 'Room 1'].map((room) => guest(room, 'Dee')));
  await elsewhere();
  await until('the rooms in their order', async () => String(await rooms(ada)) === 'Room 1,room 2,room 10,tea room', 20_000);
  step('room 2 comes before room 10');

  await exchange(ben, 'Ben', ada, 'Now it gets loud');
  const quiet = (await notes(ada)).length;
  const come = () => Promise.all(Array.from({ length: 60 }, (_, n) => guest('tea room', `Guest%20${n + 1}`)));
  await come();
  await until('62 people', async () => await ada.locator('#people > li').count() === 62);
  const crowd = async () => (await notes(ada)).slice(quiet);
  await until('60 joins in a line', async () => /^Guest \d+, Guest \d+ and 58 others came in$/.test((await crowd()).join('|')));
  const names = (await ada.locator('#people > li').allTextContents()).slice(0, 3);
  assert.deepStrictEqual(names, ['Ada (you)', 'Ben', 'Guest 1']);
  for (const [name, size] of [['phone', PHONE], ['desktop', DESKTOP]]) {
    await ada.setViewportSize(size);
    if (name === 'phone') await ada.click('#toggle');
    await inSight(ada, '#status', 'Connected as Ada');
    await ada.focus('#people');
    await ada.keyboard.press('End');
    await until('the keyboard to scroll the crowd', () => ada.$eval('#people', (list) => list.scrollTop > 500));
    await inSight(ada, '#people .you', 'Ada (you)');
    await inSight(ada, '#panel .rooms [aria-current]', 'tea room');
    await inSight(ada, '#leave', 'Leave this room');
    await fits(ada);
    await accessible(ada, `a crowd on a ${name}`);
    await screenshot(ada, `crowd-${name}`);
    if (name === 'phone') await ada.keyboard.press('Escape');
  }
  step('a crowd is one line, and hides neither the own name nor the rooms nor the way out');

  // The server closes them one after the other, so each could see the others go.
  const [loud] = await crowd();
  serverIsUp = false;
  await server.stop('SIGINT');
  await state(ada, 'connecting', 'closed');
  server = await start(program, { address: server.address });
  for (const page of [ada, ben]) await state(page, 'open');
  serverIsUp = true;
  const guests = await come();
  const dees = await elsewhere();
  await until('62 people again', async () => await ada.locator('#people > li').count() === 62);
  assert.deepStrictEqual(await crowd(), [loud, RESTARTED], 'of a crowd that was cut nobody left or came in');
  await until('the rooms again', async () => (await rooms(ada)).length === 4, 20_000);
  await ada.focus('#panel .rooms a >> nth=1');
  for (const socket of [...guests, dees[0], dees[2]]) socket.close();
  await until('the crowd to leave in one line', async () => /^Guest \d+, Guest \d+ and 58 others left$/.test((await crowd()).slice(2).join('|')));
  await until('fewer rooms', async () => String(await rooms(ada)) === 'room 2,tea room', 20_000);
  assert.strictEqual(await ada.evaluate(() => document.activeElement.hash), '#room%202', 'the keyboard lost its place in the list');
  dees[1].close();
  step('a crowd that a restart cuts has not left, and one that leaves is one line');

  await exchange(ben, 'Ben', ada, HOSTILE);
  const links = await ada.$$eval('#messages > li:last-child a', (all) => all.map((a) => [a.textContent, a.href, a.rel, a.target]));
  assert.deepStrictEqual(links, LINKS.map(([text, href]) => [text, href, 'noopener noreferrer', '_blank']));
  const elements = await ada.$$eval('#messages > li:last-child .text *', (all) => all.map((node) => node.tagName));
  assert.deepStrictEqual(elements, LINKS.map(() => 'A'), 'a message makes links and nothing else');
  const [tab] = await Promise.all([
    ada.context().waitForEvent('page'),
    (async () => { await ada.focus('#messages > li:last-child a >> nth=0'); await ada.keyboard.press('Enter'); })(),
  ]);
  assert.strictEqual(await tab.evaluate(() => window.opener), null, 'a link must not hand over the page');
  assert.strictEqual(await tab.evaluate(() => document.referrer), '');
  await tab.close();
  step('addresses are links, by keyboard too, and nothing else is');

  await exchange(ben, 'Ben', ada, 'A long line of words that has to wrap somewhere on a phone, one hopes.');
  await exchange(ben, 'Ben', ada, 'x'.repeat(300));
  for (const colorScheme of ['light', 'dark']) {
    await ada.emulateMedia({ colorScheme });
    for (const [name, size] of [['phone', PHONE], ['desktop', DESKTOP]]) {
      await ada.setViewportSize(size);
      await fits(ada);
      await accessible(ada, `the chat, ${colorScheme}, ${name}`);
      await screenshot(ada, `chat-${colorScheme}-${name}`);
    }
  }
  step('nothing overflows, and axe finds nothing, on a phone or a desktop, light or dark');

  await browser.close();
  proxy.stop();
  assert.strictEqual(await server.stop('SIGINT'), 0, 'Ctrl-C must end the server with 0');
  assert.deepStrictEqual(errors, [], 'errors on the console');
  step('no errors on the console, and Ctrl-C ends the server');
}

// Joins, and is told why that does not work.
async function refused(page, expected) {
  await page.fill('#name', 'Eve');
  await page.fill('#room', 'nowhere');
  await page.click('#join');
  const alert = page.getByRole('alert');
  await until(`the page to say ${expected}`, async () => expected.test(await alert.textContent()))
    .catch(async (error) => assert.fail(`${error.message}; it says ${await alert.textContent()}`));
  assert.ok(await alert.isVisible());
}

// Seen by the eye, not only in the document: nothing covers it, and no list has scrolled it away.
async function inSight(page, selector, text) {
  const node = page.locator(selector);
  assert.ok((await node.textContent()).includes(text), `${selector} has no ${text}`);
  const seen = await node.evaluate((node) => {
    const { left, top, width, height } = node.getBoundingClientRect();
    return node.contains(document.elementFromPoint(left + width / 2, top + height / 2));
  });
  assert.ok(seen, `${selector} is out of sight`);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
