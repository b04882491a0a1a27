/** What the page says of a connection that does not carry everything: in the panel, and over the tiles. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { NO_SERVER, openFromDisk, screenshot } from "./chromium.mjs";
import { browser, withBrowser } from "./fixture.mjs";
import { installPortraits } from "./portrait.mjs";

const LAYERS = {
  high: { encoding: 2, spatial: 0, temporal: 0, width: 1280, height: 720, frame_rate: 30, bitrate: 1_700_000 },
  low: { encoding: 0, spatial: 0, temporal: 0, width: 320, height: 180, frame_rate: 15, bitrate: 140_000 },
};
const NO_BANDWIDTH = "It is paused: the connection does not carry it beside the other pictures.";
const QUALITY = {
  estimate: 800_000,
  limit: "loss",
  round_trip: 60,
  link_loss: 0.031,
  audio: 40_000,
  wanted: 3_400_000,
  slots: [
    {
      mid: "4", track: "t_1", priority: "speaker", visible: true, width: 960, height: 540, layer: LAYERS.low,
      reason: "estimate", explanation: "It takes 0.1 Mbit/s. A better picture does not fit: the best of everything that is shown needs 3.4 Mbit/s; the connection carries 0.8 Mbit/s.", switches: 4,
    },
    {
      mid: "5", track: "t_2", priority: "rest", visible: true, width: 240, height: 135, layer: null,
      reason: "no_bandwidth", explanation: NO_BANDWIDTH, switches: 1,
    },
    {
      mid: "6", track: "t_3", priority: "rest", visible: true, width: null, height: null, layer: LAYERS.high,
      reason: "best", explanation: "It is the best that is sent: 1280 by 720 pixels, 30 frames a second.", switches: 0,
    },
  ],
  decisions: [
    { ago: 61_000, mid: "4", from: null, to: LAYERS.high, reason: "best", estimate: 4_000_000 },
    { ago: 9_300, mid: "5", from: LAYERS.low, to: null, reason: "no_bandwidth", estimate: 250_000 },
    { ago: 4_200, mid: "4", from: LAYERS.high, to: LAYERS.low, reason: "estimate", estimate: 300_000 },
  ],
};
const NAMES = { t_1: "Grace: camera", t_2: "Linus: camera", t_3: "Margaret: screen" };
const SIZES = { desktop: { width: 1280, height: 800 }, phone: { width: 320, height: 640 } };

withBrowser();

async function openPage(viewport) {
  const page = await openFromDisk(browser, { viewport });
  await page.addInitScript(installPortraits);
  await page.goto(NO_SERVER);
  await page.evaluate(() => (document.body.dataset.view = "call"));
  return page;
}

/** Opens the panel on a call whose server answers so. */
async function panelOf(page, answer) {
  await page.evaluate(
    async ([names, answer]) => {
      const { QualityPanel } = await import("/quality.js");
      const { ConfabError } = await import("/sdk/events.js");
      document.getElementById("stats").hidden = false;
      window.asked = 0;
      const quality = async () => {
        window.asked += 1;
        if (answer.error) throw new ConfabError(answer.error, "");
        return structuredClone(answer);
      };
      window.panel = new QualityPanel({ quality }, (id) => names[id]);
      await window.panel.refresh();
    },
    [NAMES, answer],
  );
}

for (const [size, viewport] of Object.entries(SIZES)) {
  test(`why a video is low, at a glance (${size})`, async () => {
    const page = await openPage(viewport);
    await panelOf(page, QUALITY);
    await screenshot(page, `quality-${size}`);
    assert.equal(
      await page.textContent("#quality-summary"),
      "Your connection carries about 0.8 Mbit/s. All you see and hear would take 3.4 Mbit/s. When more is sent, packets are lost. " +
        "The link loses 3 % of all packets, however little is sent.",
    );
    const pictures = await page.locator("#quality-pictures > li").allInnerTexts();
    assert.equal(pictures.length, 3);
    const [grace, linus, margaret] = pictures;
    for (const part of ["Grace: camera", "320×180 @ 15 fps, 140 kbit/s", "A better picture does not fit", "960×540 on your screen · 4 switches"]) {
      assert.ok(grace.includes(part), `${part} is not in ${grace}`);
    }
    assert.match(grace, /4 s ago: 1280×720 @ 30 fps → 320×180 @ 15 fps, all that your connection carries \(at 0\.3 Mbit\/s\)\n61 s ago: paused →/);
    assert.match(linus, /^Linus: camera\s+paused\s+It is paused/);
    assert.ok(!margaret.includes("on your screen"), margaret);
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "the page scrolls sideways");
    assert.ok(await page.evaluate(() => document.getElementById("stats").scrollWidth <= document.getElementById("stats").clientWidth), "the panel scrolls sideways");
  });
}

test("a connection that carries everything is said to", async () => {
  const page = await openPage(SIZES.desktop);
  await panelOf(page, { ...QUALITY, estimate: 5_000_000, link_loss: 0 });
  assert.equal(
    await page.textContent("#quality-summary"),
    "Your connection carries about 5.0 Mbit/s. That is enough for all you see and hear, 3.4 Mbit/s.",
  );
});

test("a server that cannot say is asked once, and nothing is shown", async () => {
  const page = await openPage(SIZES.desktop);
  await panelOf(page, { error: "unknown_type" });
  await page.evaluate(() => window.panel.refresh());
  assert.equal(await page.evaluate(() => window.asked), 1);
  assert.ok(await page.isHidden("#quality"));
});

for (const [size, viewport] of Object.entries({ ...SIZES, many: { width: 640, height: 480 } })) {
  test(`a paused picture says why, and who has the floor is marked (${size})`, async () => {
    const page = await openPage(viewport);
    await page.evaluate(
      async ([words, count]) => {
        const { Grid, Tile } = await import("/grid.js");
        const grid = new Grid(document.getElementById("grid"));
        for (let index = 0; index < count; index += 1) {
          const tile = new Tile(`p_${index}`, `Person ${index}`, { screen: index === 0 });
          grid.add(tile);
          tile.setVideo(window.portrait(index));
          tile.setDominant(index === 1);
          tile.setPaused("video", index % 3 === 2 || index === 0 ? words : null);
        }
        grid.pin(null);
      },
      [NO_BANDWIDTH, size === "many" ? 16 : 4],
    );
    await page.waitForTimeout(800);
    await screenshot(page, `paused-${size}`);
    const fits = await page.evaluate(() =>
      [...document.querySelectorAll(".tile.paused")].map((tile) => {
        const words = tile.querySelector(".pause");
        const video = getComputedStyle(tile.querySelector("video"));
        return {
          whole: words.scrollHeight <= words.clientHeight + 1,
          clear: words.getBoundingClientRect().bottom <= tile.querySelector(".label").getBoundingClientRect().top,
          frozen: video.visibility !== "hidden",
          measured: video.display !== "none",
        };
      }),
    );
    assert.ok(fits.length >= 2);
    // The smallest tiles show the beginning of a long sentence.
    const mustBeWhole = size !== "many";
    for (const fit of fits) assert.deepEqual(fit, { whole: mustBeWhole || fit.whole, clear: true, frozen: false, measured: true });
  });
}
