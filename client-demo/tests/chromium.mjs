/**
 * Chromium as the tests use it: Debian's, headless, with a fake camera and a microphone that
 * speaks; and the page's files without a server, for tests that need none.
 */

import { mkdirSync, writeFileSync } from "node:fs";
import { mkdtemp, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { EXECUTABLE, FLAGS } from "./chromium-flags.mjs";
import { speechWav } from "./speech.mjs";

const HERE = dirname(fileURLToPath(import.meta.url));
export const RESULTS = join(HERE, "..", "test-results");
/** An address that the browser treats as secure; nothing listens there. */
export const NO_SERVER = "http://localhost:1";
const MIME = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };
/** As strict as the server's. */
const CSP = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'";

/**
 * @param {string[]} [more] Further flags.
 */
export async function launchChromium(more = []) {
  mkdirSync(RESULTS, { recursive: true });
  const wav = join(await mkdtemp(join(tmpdir(), "confab-")), "speech.wav");
  writeFileSync(wav, speechWav());
  return chromium.launch({
    executablePath: EXECUTABLE,
    args: [
      ...FLAGS,
      "--use-fake-device-for-media-stream=fps=30",
      `--use-file-for-fake-audio-capture=${wav}`,
      ...more,
    ],
    // Playwright's own would hide what a user's browser does with audio.
    ignoreDefaultArgs: ["--mute-audio", "--hide-scrollbars"],
  });
}

/**
 * A page, in a context of its own, that finds the call page's files at `NO_SERVER` and is not there yet.
 * @param {import("playwright-core").Browser} browser
 * @param {{viewport: {width: number, height: number}, colorScheme?: "dark" | "light"}} options
 */
export async function openFromDisk(browser, { viewport, colorScheme = "dark" }) {
  const context = await browser.newContext({ viewport, colorScheme });
  await serveFromDisk(context);
  return context.newPage();
}

/**
 * Serves the page's files to a context straight from the working tree.
 * @param {import("playwright-core").BrowserContext} context
 */
async function serveFromDisk(context) {
  await context.route(`${NO_SERVER}/**`, async (route) => {
    const path = new URL(route.request().url()).pathname;
    const file = path === "/" ? "web/index.html" : path.startsWith("/sdk/") ? path.slice(1) : `web${path}`;
    try {
      const body = await readFile(join(HERE, "..", file));
      await route.fulfill({ body, contentType: MIME[extname(file)], headers: { "content-security-policy": CSP } });
    } catch {
      await route.fulfill({ status: 404, body: "" });
    }
  });
}

/**
 * @param {import("playwright-core").Page} page
 * @param {string} name
 */
export async function screenshot(page, name) {
  await page.screenshot({ path: join(RESULTS, `${name}.png`) });
}
