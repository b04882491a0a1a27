/**
 * Chromium as a participant of a measured call, as its own process.
 *
 *     node participant.mjs --server-kind confab --url ws://10.1.0.1:8080/v1/ws --room r --name alice
 *
 * In come the words `join` and `leave`, each on a line of its own; the end of the input is a
 * `leave`. Out go JSON lines as in `client-demo/bot/src/sample.rs`: `ready` once everything is
 * captured, then what becomes of the call, and a sample at every whole second since `joining`. What
 * is worth a log is on the standard error.
 *
 * Pages and SDK are read from the working tree by the browser's own process: nothing but the server
 * under test is reached over the network.
 */

import { createRequire } from "node:module";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, extname, join, normalize } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { EXECUTABLE, FLAGS } from "../../client-demo/tests/chromium-flags.mjs";
import { speechWav } from "../../client-demo/tests/speech.mjs";

const HERE = dirname(fileURLToPath(import.meta.url));
const CLIENT_DEMO = join(HERE, "..", "..", "client-demo");
/** An address that the browser trusts with a microphone; nothing listens there. Servers need it in their allowed origins. */
const ORIGIN = "http://localhost";
const MIME = { ".html": "text/html", ".js": "text/javascript" };
/** Leaving may wait for a reply that never comes; after this the process ends anyway, milliseconds. */
const LEAVE_PATIENCE_MS = 3_000;
const OPTIONS = /** @type {const} */ ({
  "server-kind": { type: "string", default: "confab" },
  url: { type: "string" },
  token: { type: "string" },
  room: { type: "string" },
  name: { type: "string" },
  publish: { type: "string", default: "audio,video" },
  size: { type: "string", default: "640x360" },
  fps: { type: "string", default: "30" },
  // Without either of them it is as the client has it by default.
  simulcast: { type: "boolean" },
  "no-simulcast": { type: "boolean" },
  relay: { type: "string" },
  speech: { type: "string" },
});
const MEASURING_FLAGS = [
  "--autoplay-policy=no-user-gesture-required",
  "--use-fake-device-for-media-stream",
  // The relay's certificate is of a namespace that nobody vouches for.
  "--ignore-certificate-errors",
  // A page that nobody looks at would else draw and measure once a second.
  "--disable-background-timer-throttling",
  "--disable-renderer-backgrounding",
  "--disable-backgrounding-occluded-windows",
  // So that Janus, which resolves no names, gets addresses; and so that a page of this machine may
  // call on private ones.
  "--disable-features=WebRtcHideLocalIpsWithMdns,LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets",
];

/** @returns {object} The page's `Settings`, and the file to speak. Throws one sentence. */
function readArguments() {
  const { values } = parseArgs({ options: OPTIONS });
  for (const name of ["url", "room", "name"]) {
    if (!values[name]) throw new Error(`--${name} is missing.`);
  }
  if (!["confab", "janus"].includes(values["server-kind"])) {
    throw new Error(`--server-kind is confab or janus, not ${values["server-kind"]}.`);
  }
  const publish = values.publish.split(",").filter(Boolean);
  const wrong = publish.find((kind) => kind !== "audio" && kind !== "video");
  if (wrong) throw new Error(`--publish takes audio and video, not ${wrong}.`);
  const [, width, height] = /^(\d+)x(\d+)$/.exec(values.size) ?? [];
  if (!width) throw new Error(`--size is a width and a height such as 640x360, not ${values.size}.`);
  const fps = Number(values.fps);
  if (!(fps >= 1 && fps <= 60)) throw new Error(`--fps is from 1 to 60, not ${values.fps}.`);
  const { url, token, room, name, relay, speech } = values;
  const simulcast = values["no-simulcast"] ? false : values.simulcast;
  if (relay !== undefined && !["udp", "tcp", "tls"].includes(relay)) throw new Error(`--relay is udp, tcp or tls, not ${relay}.`);
  const settings = { serverKind: values["server-kind"], url, token, room, name, publish, width: Number(width), height: Number(height), fps, simulcast, relay };
  return { settings, speech };
}

function loadPlaywright() {
  try {
    return createRequire(join(CLIENT_DEMO, "package.json"))("playwright-core").chromium;
  } catch {
    throw new Error("playwright-core is not installed: run npm ci in client-demo.");
  }
}

/** @param {object} line */
function tell(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

/**
 * Serves the page's files, and the SDK's below /sdk/.
 * @param {import("playwright-core").Page} page
 */
async function serveFromDisk(page) {
  await page.route(`${ORIGIN}/**`, async (route) => {
    const path = normalize(new URL(route.request().url()).pathname);
    const file = path.startsWith("/sdk/") ? join(CLIENT_DEMO, path) : join(HERE, "page", path === "/" ? "index.html" : path);
    try {
      await route.fulfill({ body: await readFile(file), contentType: MIME[extname(file)] });
    } catch (error) {
      console.error(String(error));
      await route.fulfill({ status: 404, body: "" });
    }
  });
}

/** One run, from the start of the browser to its end. */
class Run {
  #folder = mkdtempSync(join(tmpdir(), "confab-participant-"));
  #browser = null;
  #page = null;
  #ending = false;

  async start() {
    const { settings, speech } = readArguments();
    const wav = speech ?? join(this.#folder, "speech.wav");
    if (!speech) writeFileSync(wav, speechWav());
    this.#browser = await loadPlaywright().launch({
      executablePath: EXECUTABLE,
      args: [...FLAGS, ...MEASURING_FLAGS, `--use-file-for-fake-audio-capture=${wav}`],
      // Sound that is never played would never be concealed either.
      ignoreDefaultArgs: ["--mute-audio"],
    });
    this.#browser.on("disconnected", () => this.fail("The browser ended unexpectedly."));
    this.#page = await this.#browser.newPage({ viewport: { width: 640, height: 360 } });
    this.#page.on("crash", () => this.fail("The browser's page crashed."));
    this.#page.on("pageerror", (error) => console.error(`${settings.name}: ${error.stack}`));
    this.#page.on("console", (message) => console.error(`${settings.name}: ${message.text()}`));
    await serveFromDisk(this.#page);
    await this.#page.exposeFunction("tell", (line) => (line.type === "failed" ? this.fail(line.why, line.at) : tell(line)));
    await this.#page.goto(`${ORIGIN}/`);
    await this.#page.waitForFunction(() => "prepare" in globalThis);
    await this.#page.evaluate((settings) => globalThis.prepare(settings), settings);
    tell({ type: "ready" });
  }

  async join() {
    await this.#page?.evaluate(() => globalThis.participant.join());
  }

  async leave() {
    if (this.#ending) return;
    this.#ending = true;
    const left = this.#page?.evaluate(() => globalThis.participant?.leave()).catch(() => {});
    await Promise.race([left, new Promise((done) => setTimeout(done, LEAVE_PATIENCE_MS))]);
    await this.#end(0);
  }

  /**
   * @param {string} why A sentence.
   * @param {number} [at] Milliseconds since 1970.
   */
  async fail(why, at = Date.now()) {
    if (this.#ending) return;
    this.#ending = true;
    tell({ type: "failed", at, why });
    await this.#end(1);
  }

  /** @param {number} status */
  async #end(status) {
    await this.#browser?.close().catch(() => {});
    rmSync(this.#folder, { recursive: true, force: true });
    process.exit(status);
  }
}

const run = new Run();
const started = run.start().catch((error) => run.fail(firstLine(error)));
const lines = createInterface({ input: process.stdin });
lines.on("line", async (line) => {
  await started;
  const word = line.trim();
  if (word === "join") await run.join().catch((error) => run.fail(firstLine(error)));
  else if (word === "leave") await run.leave();
  else if (word !== "") console.error(`There is no word ${JSON.stringify(word)}: say join or leave.`);
});
lines.on("close", () => run.leave());
process.on("SIGTERM", () => run.leave());
process.on("SIGINT", () => run.leave());

/** @param {unknown} error What may be a page of Playwright's. */
function firstLine(error) {
  return (error instanceof Error ? error.message : String(error)).split("\n")[0];
}
