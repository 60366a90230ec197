// Chromium against the echo example with compression: deflate_browser.js PROGRAM
const assert = require('node:assert');
const { start, launch } = require('./browser');

(async () => {
  const server = await start(process.argv[2], { args: ['--deflate'] });
  const browser = await launch();
  const page = await browser.newPage();
  await page.goto(`http://${server.address}/`); // so that the origin is the server's own
  const result = await page.evaluate(async () => {
    const ws = new WebSocket(`ws://${location.host}/echo`);
    ws.binaryType = 'arraybuffer';
    const next = (event) => new Promise((resolve, reject) => {
      ws.addEventListener(event, resolve, { once: true });
      ws.addEventListener('error', () => reject(new Error('the WebSocket failed')), { once: true });
    });
    await next('open');
    const texts = ['hello', '', 'grüße, 世界 🦀', 'again and again, '.repeat(10_000), 'x'.repeat(1_000_000)];
    const wrong = [];
    for (const text of [...texts, ...texts]) {
      ws.send(text);
      if ((await next('message')).data !== text) wrong.push(text.slice(0, 20));
    }
    const noise = crypto.getRandomValues(new Uint8Array(65_536));
    ws.send(noise);
    const echo = new Uint8Array((await next('message')).data);
    if (echo.length !== noise.length || echo.some((byte, i) => byte !== noise[i])) wrong.push('noise');
    ws.close(1000);
    const { code, wasClean } = await next('close');
    return { extensions: ws.extensions, wrong, code, wasClean };
  });
  assert.match(result.extensions, /^permessage-deflate/);
  assert.deepStrictEqual(result.wrong, []);
  assert.strictEqual(result.code, 1000);
  assert.ok(result.wasClean);
  await browser.close();
  await server.stop('SIGTERM');
  console.log(`  ${result.extensions}: every message came back`);
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
