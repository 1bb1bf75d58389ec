// Chromium over TLS: one page reads a channel by EventSource, WebSocket and long-poll, and publishes by fetch.
// Arguments: the server's origin, its certificate, a folder for the browser's profile. Writes what each reader got.
import { createHash, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const [origin, certificate, profile] = process.argv.slice(2);
const key = new X509Certificate(readFileSync(certificate)).publicKey.export({ type: "spki", format: "der" });
const fingerprint = createHash("sha256").update(key).digest("base64");

const browser = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.THROUGHLINE_TEST_CHROMIUM ?? "/usr/bin/chromium",
  args: [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    `--ignore-certificate-errors-spki-list=${fingerprint}`,
  ],
});
try {
  const page = await browser.newPage();
  await page.goto(`${origin}/livez`);
  const report = await page.evaluate(readAndPublish);
  process.stdout.write(JSON.stringify(report));
} finally {
  await browser.close();
}

// Runs in the page.
async function readAndPublish() {
  const COUNT = 3;
  const LENGTH = 100_000;
  const got = { sse: [], websocket: [], poll: [] };
  const deadline = (what) =>
    new Promise((_, fail) => setTimeout(() => fail(new Error(`${what}: ${JSON.stringify(summary())}`)), 30_000));
  const summary = () => Object.fromEntries(Object.entries(got).map(([name, all]) => [name, all.length]));
  let wake = () => {};
  const take = (name, push) => {
    if (push.type === "publication") got[name].push(push.data);
    wake();
  };

  const ready = [];
  const events = new EventSource("/v1/sse?channel=browser");
  ready.push(new Promise((done) => events.addEventListener("subscribed", done)));
  events.onmessage = (event) => take("sse", JSON.parse(event.data));

  const socket = new WebSocket(`${location.origin.replace("https:", "wss:")}/v1/ws?channel=browser`, "throughline.v1");
  ready.push(
    new Promise((done, fail) => {
      socket.onerror = () => fail(new Error("the WebSocket failed"));
      socket.onmessage = (message) => {
        const push = JSON.parse(message.data);
        if (push.type === "subscribed") done();
        take("websocket", push);
      };
    }),
  );

  const poll = async (since) => (await fetch(`/v1/poll?channel=browser&wait=20&since=${since}`)).json();
  let { cursor } = await poll("now");
  const polling = (async () => {
    while (got.poll.length < COUNT) {
      const answer = await poll(cursor);
      cursor = answer.cursor;
      answer.pushes.forEach((push) => take("poll", push));
    }
  })();

  await Promise.race([Promise.all(ready), deadline("subscribing")]);
  const sent = [];
  for (let n = 0; n < COUNT; n += 1) {
    const data = String(n).repeat(LENGTH);
    sent.push(data);
    const body = JSON.stringify({ channel: "browser", data });
    await fetch("/v1/publish", { method: "POST", headers: { "content-type": "application/json" }, body });
  }
  const all = new Promise((done) => {
    wake = () => Object.values(got).every((list) => list.length >= COUNT) && done();
    wake();
  });
  await Promise.race([Promise.all([all, polling]), deadline("receiving")]);
  const same = (list) => JSON.stringify(list) === JSON.stringify(sent);
  return {
    sse: same(got.sse),
    websocket: same(got.websocket),
    poll: same(got.poll),
    subprotocol: socket.protocol,
    protocols: [...new Set(performance.getEntries().map((entry) => entry.nextHopProtocol).filter(Boolean))],
  };
}
