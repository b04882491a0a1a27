/**
 * Somebody who opens a link in a browser, on a desk or with a phone, as a process of its own.
 *
 *     node visitor.mjs --link https://… --name Ada --device desk --screenshot ada
 *
 * Out go JSON lines: `joined`; `sees` once somebody else's picture moves (ten frames); `failed` with a sentence. In
 * come words, each on a line of its own: `invite`, answered by `invited` with the link that the page
 * makes; `look`, which takes the screenshot and is answered by `looked`; the end of the input ends it.
 */

import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { launchChromium, screenshot } from "../../client-demo/tests/chromium.mjs";

/** Software encoders on few cores take their time, milliseconds. */
const PATIENCE_MS = 60_000;
const DEVICES = {
  desk: { viewport: { width: 1280, height: 800 } },
  phone: { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true },
};

const { values } = parseArgs({
  options: {
    link: { type: "string" },
    name: { type: "string" },
    device: { type: "string", default: "desk" },
    screenshot: { type: "string" },
  },
});

/** @param {object} line */
function tell(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

/**
 * Asks the page until the answer is one; `waitForFunction` would take a promise for an answer.
 * @template T
 * @param {import("playwright-core").Page} page
 * @param {() => Promise<T>} question
 * @returns {Promise<NonNullable<T>>}
 */
async function answered(page, question) {
  const deadline = Date.now() + PATIENCE_MS;
  while (Date.now() < deadline) {
    const answer = await page.evaluate(question);
    if (answer) return answer;
    await new Promise((done) => setTimeout(done, 200));
  }
  const seen = await page.evaluate(async () => {
    const { call } = window.confab;
    const report = [...(await call.peerConnection.getStats()).values()];
    const statistics = report.filter(({ type }) => ["inbound-rtp", "candidate-pair", "transport", "outbound-rtp"].includes(type));
    const participants = [...call.participants.values()].map(({ name, tracks }) => [name, ...tracks.values()]);
    return { state: call.state, participants, statistics, quality: await call.quality() };
  });
  throw new Error(`no answer to ${question}: ${JSON.stringify(seen)}`);
}

/** The link that the page hands out when its button is pressed, wherever the page puts it. */
async function invited(page) {
  const asked = new Promise((resolve) => {
    page.once("dialog", (dialog) => {
      resolve(dialog.defaultValue());
      void dialog.dismiss();
    });
  });
  await page.click("#copy-link");
  const copied = answered(page, async () => {
    const text = await navigator.clipboard.readText();
    return text.includes("#token=") ? text : undefined;
  });
  copied.catch(() => undefined);
  return Promise.race([asked, copied]);
}

/** @param {import("playwright-core").Page} page */
async function visit(page) {
  await page.goto(values.link);
  await page.fill("#name", values.name);
  await page.click("#join");
  await page.waitForFunction(() => window.confab?.call?.state === "connected", null, { timeout: PATIENCE_MS });
  tell({ type: "joined", room: await page.textContent("#room-name"), at: new URL(page.url()).pathname });
  const people = await answered(page, async () => {
    const { call } = window.confab;
    const report = [...(await call.peerConnection.getStats()).values()];
    const moves = report.some(({ type, kind, framesDecoded }) => type === "inbound-rtp" && kind === "video" && framesDecoded > 10);
    return moves ? [...call.participants.values()].map(({ name }) => name) : undefined;
  });
  tell({ type: "sees", people });
}

/** @type {import("playwright-core").Browser | undefined} */
let browser;
try {
  // Nobody vouches for the certificate; the tester knows the server.
  browser = await launchChromium(["--ignore-certificate-errors"]);
  const context = await browser.newContext({ ...DEVICES[values.device], permissions: ["clipboard-read", "clipboard-write"] });
  const page = await context.newPage();
  page.on("pageerror", (error) => console.error(error.stack));
  const visited = visit(page).catch((error) => tell({ type: "failed", why: `${values.name}: ${error.message}` }));
  for await (const word of createInterface({ input: process.stdin })) {
    if (word === "invite") tell({ type: "invited", link: await invited(page) });
    if (word === "look") {
      await screenshot(page, values.screenshot);
      tell({ type: "looked" });
    }
  }
  await Promise.race([visited, browser.close()]);
} catch (error) {
  tell({ type: "failed", why: `${values.name}: ${error.message}` });
} finally {
  await browser?.close();
}
