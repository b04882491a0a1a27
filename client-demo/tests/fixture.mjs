/**
 * What the tests of a file share, made before them and gone after them: a browser, and the server
 * under test. What a test opens is closed after it.
 */

import { after, afterEach, before } from "node:test";
import { launchChromium } from "./chromium.mjs";
import { Firefox } from "./firefox.mjs";
import { ownAddress, Server } from "./server.mjs";

/** @type {import("playwright-core").Browser} */
export let browser;
/** @type {Firefox} */
export let firefox;
/** @type {Server} */
export let server;

export function withBrowser() {
  before(async () => {
    browser = await launchChromium();
  });
  afterEach(async () => {
    for (const context of browser?.contexts() ?? []) await context.close();
  });
  after(() => browser?.close());
}

/** After `withBrowser`, so that the server goes when nobody is in a call any more. */
export function withServer() {
  before(async () => {
    server = await Server.start();
  });
  after(() => server?.kill());
}

/**
 * Chromium as `browser`, Firefox, and a server. Firefox makes no media connection to 127.0.0.1, so that
 * server listens on the machine's own address, with tokens.
 */
export function withBothBrowsers() {
  before(async () => {
    server = await Server.start(ownAddress());
    [browser, firefox] = await Promise.all([launchChromium(), Firefox.launch()]);
  });
  after(async () => {
    await browser?.close();
    await firefox?.close();
    await server?.kill();
  });
}
