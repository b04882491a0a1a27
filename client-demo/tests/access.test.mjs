/**
 * Whether people who do not see, point or hear as others do get along with the page: axe-core in every
 * state, both themes and on desk and phone; where the focus goes; what a screen reader hears of buttons.
 */

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { screenshot } from "./chromium.mjs";
import { browser, server, withBrowser, withServer } from "./fixture.mjs";
import { address, connected, join, moving, newRoom, tile } from "./participant.mjs";
import { installPortraits } from "./portrait.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const SIZES = { desk: { width: 1280, height: 800 }, phone: { width: 390, height: 844 }, "lying-phone": { width: 844, height: 390 } };
const THEMES = /** @type {const} */ (["light", "dark"]);
/** Long enough for tiles to reach their places and for colours to settle, milliseconds. */
const SETTLE_MS = 400;

withBrowser();
withServer();

/** What axe-core finds, in a line each. */
async function violations(page) {
  if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(AXE);
  return page.evaluate(async () => {
    const { violations } = await window.axe.run(document, { resultTypes: ["violations"] });
    return violations.flatMap(({ id, nodes }) =>
      nodes.map(({ target, failureSummary }) => `${id}: ${target.join(" ")}: ${failureSummary.split("\n").slice(1).join(";").trim()}`));
  });
}

/** Asserts that axe-core finds nothing in this state, whatever the theme and the size. */
async function isFine(page, state) {
  const before = page.viewportSize();
  for (const [size, viewport] of Object.entries(SIZES)) {
    await page.setViewportSize(viewport);
    for (const colorScheme of THEMES) {
      await page.emulateMedia({ colorScheme });
      await page.waitForTimeout(SETTLE_MS);
      await screenshot(page, `access-${state.replaceAll(" ", "-")}-${size}-${colorScheme}`);
      const found = await violations(page);
      assert.deepEqual(found, [], `${state}, ${size}, ${colorScheme}:\n${found.join("\n")}`);
      const isSideways = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
      assert.ok(!isSideways, `${state}, ${size}: the page scrolls sideways`);
    }
  }
  await page.setViewportSize(before);
}

/** What has the focus: its id, or the name of its element. */
async function focused(page) {
  return page.evaluate(() => document.activeElement?.id || document.activeElement?.tagName);
}

/** Opens the page and stays in the lobby. */
async function lobby(options, script) {
  const context = await browser.newContext({ viewport: SIZES.desk });
  const page = await context.newPage();
  if (script) await page.addInitScript(script);
  const url = new URL(address(server.url, options));
  url.searchParams.delete("autojoin");
  await page.goto(url.href);
  return page;
}

test("axe-core finds nothing in the lobby, with and without trouble", async () => {
  const page = await lobby({ name: "Ada" });
  await page.waitForFunction(() => document.getElementById("preview").videoWidth > 0);
  await isFine(page, "lobby");
  await page.click("#lobby-mic");
  await page.click("#lobby-camera");
  await isFine(page, "lobby with everything off");
  const troubled = await lobby({ name: "Ada" }, () => {
    navigator.mediaDevices.getUserMedia = async () => {
      throw new DOMException("refused by the test", "NotAllowedError");
    };
  });
  await troubled.waitForSelector("#lobby-problem:visible");
  await isFine(troubled, "lobby with an error");
});

test("axe-core finds nothing in a call, alone, of two, muted, sharing, with statistics and devices, and after it", async () => {
  const room = newRoom();
  const ada = await join(browser, server.url, { name: "Ada", room });
  await isFine(ada, "alone");
  const grace = await join(browser, server.url, { name: "Grace", room });
  await moving(ada, "Grace");
  await isFine(ada, "two");
  await ada.click("#toggle-mic");
  await ada.click("#toggle-camera");
  await grace.click("#toggle-mic");
  await grace.click("#toggle-camera");
  await ada.waitForSelector('.tile.blank[aria-label="Grace, muted"]');
  await isFine(ada, "muted");
  await grace.click("#toggle-camera");
  await ada.click("#toggle-screen");
  await moving(grace, "Ada's screen");
  await isFine(ada, "sharing");
  await isFine(grace, "watching a screen");
  await ada.click("#toggle-stats");
  await ada.waitForSelector("#quality:visible");
  await isFine(ada, "statistics");
  await ada.click("#stats-close");
  await ada.click("#open-devices");
  await isFine(ada, "devices");
  await ada.keyboard.press("Escape");
  await ada.click("#leave");
  await isFine(ada, "left");
});

test("axe-core finds nothing in a call of six", async () => {
  const room = newRoom();
  const ada = await join(browser, server.url, { name: "Ada", room }, { portrait: { index: 0, width: 640, fps: 5 } });
  const names = ["Grace", "Linus", "Margaret", "Barbara", "Alan"];
  // One page for all of them: six would be too many for a small machine.
  const others = await lobby({ name: "others", room }, installPortraits);
  await others.evaluate(
    async ([names, room]) => {
      const { Confab } = await import("/sdk/confab.js");
      window.calls = [];
      for (const [index, name] of names.entries()) {
        const tracks = [window.portrait(index + 1, 320, 5, 180)];
        window.calls.push(await Confab.join({ room, name, tracks }));
      }
    },
    [names, room],
  );
  for (const name of names) await moving(ada, name);
  await isFine(ada, "six");
});

test("axe-core finds nothing on the page that checks the connection", async () => {
  const context = await browser.newContext({ viewport: SIZES.desk });
  const page = await context.newPage();
  await page.goto(`${server.url}/check.html`);
  await isFine(page, "checking");
  await page.waitForFunction(() => !document.getElementById("again").disabled, null, { timeout: 40_000 });
  await isFine(page, "checked");
});

test("the focus is where one goes on: after joining, in the panels, after leaving, in the lobby", async () => {
  const page = await lobby({ name: "Ada", room: newRoom() });
  await page.waitForFunction(() => document.getElementById("preview").videoWidth > 0);
  await page.focus("#join");
  await page.keyboard.press("Enter");
  await connected(page);
  assert.equal(await focused(page), "room-name");
  await page.focus("#toggle-stats");
  await page.keyboard.press("Enter");
  await page.focus("#stats-close");
  await page.keyboard.press("Enter");
  assert.equal(await focused(page), "toggle-stats");
  await page.focus("#open-devices");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#devices:visible");
  assert.equal(await focused(page), "call-camera");
  await page.keyboard.press("Escape");
  assert.equal(await focused(page), "open-devices");
  await page.focus("#leave");
  await page.keyboard.press("Enter");
  assert.equal(await focused(page), "left-title");
  await page.focus("#to-lobby");
  await page.keyboard.press("Enter");
  assert.equal(await focused(page), "lobby-title");
});

test("a refused join leaves the focus at the button that tries again", async () => {
  const page = await lobby({ name: "Ada", room: newRoom() }, () => {
    globalThis.WebSocket = class extends EventTarget {
      constructor() {
        super();
        setTimeout(() => this.onclose?.(new CloseEvent("close")), 10);
      }
      close() {}
    };
  });
  await page.waitForFunction(() => document.getElementById("preview").videoWidth > 0);
  await page.focus("#join");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#lobby-problem:visible", { timeout: 15_000 });
  assert.equal(await focused(page), "join");
});

test("buttons say what pressing them does, and nothing that contradicts it", async () => {
  const page = await join(browser, server.url, { name: "Ada", room: newRoom() });
  const named = async (id) => page.locator(`#${id}`).evaluate((button) => ({ name: button.innerText.trim(), pressed: button.ariaPressed }));
  assert.deepEqual(await named("toggle-mic"), { name: "Mute", pressed: null });
  assert.deepEqual(await named("toggle-camera"), { name: "Camera off", pressed: null });
  await page.click("#toggle-mic");
  await page.click("#toggle-camera");
  await page.waitForSelector('#toggle-camera[data-on="false"]');
  assert.deepEqual(await named("toggle-mic"), { name: "Unmute", pressed: null });
  assert.deepEqual(await named("toggle-camera"), { name: "Camera on", pressed: null });
  const stats = page.locator("#toggle-stats");
  assert.equal(await stats.getAttribute("aria-expanded"), "false");
  await stats.click();
  assert.equal(await stats.getAttribute("aria-expanded"), "true");
  assert.equal(await page.getByRole("heading", { level: 1 }).count(), 1);
  await tile(page, "Ada").hover();
  await page.getByRole("button", { name: "Pin Ada", exact: true }).click();
  assert.equal(await page.getByRole("button", { name: "Unpin Ada", exact: true }).getAttribute("aria-pressed"), null);
});

test("the tab names the room for as long as the call lasts", async () => {
  const room = newRoom();
  const page = await join(browser, server.url, { name: "Ada", room });
  assert.equal(await page.title(), `${room} – Confab`);
  await page.click("#leave");
  assert.equal(await page.title(), "Confab");
});
