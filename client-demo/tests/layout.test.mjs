/** The grid in several sizes: tiles do not overlap and use the room, and pictures fit them. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { NO_SERVER, openFromDisk, screenshot } from "./chromium.mjs";
import { browser, withBrowser } from "./fixture.mjs";
import { installPortraits } from "./portrait.mjs";

const NAMES = [
  "Ada", "Grace Hopper", "Linus", "Margaret Hamilton", "Barbara", "Alan", "Radia Perlman", "Ken", "Frances Allen",
  "Dennis", "Karen Spärck Jones", "Edsger", "Hedy", "Claude", "Katherine Johnson", "Tim", "Jean", "Donald", "Sophie Wilson",
  "Vint", "Annie Easley", "John", "Shafi", "Leslie", "An extraordinarily long name that cannot possibly fit",
];

withBrowser();

/** Opens the page with so many tiles. */
async function gridOf(count, viewport, colorScheme) {
  const page = await openFromDisk(browser, { viewport, colorScheme });
  await page.addInitScript(installPortraits);
  await page.goto(NO_SERVER);
  await page.evaluate(async () => {
    const { Grid } = await import("/grid.js");
    document.body.dataset.view = "call";
    document.getElementById("room-name").textContent = "quiet-otter-42";
    window.testGrid = new Grid(document.getElementById("grid"));
  });
  await fill(page, count);
  return page;
}

/** Adds tiles until there are so many, every third one without a camera. */
async function fill(page, count) {
  await page.evaluate(
    async ([names, count]) => {
      const { Tile } = await import("/grid.js");
      document.getElementById("head-count").textContent = `${count} people`;
      document.getElementById("alone").hidden = count !== 1;
      const grid = window.testGrid;
      for (let index = document.getElementById("grid").children.length; index < count; index += 1) {
        const tile = new Tile(`p_${index}`, names[index], { self: index === 0 });
        grid.add(tile);
        tile.setMicrophone(index % 4 !== 2);
        tile.setLevel(index === 1 ? 1 : 0);
        if (index % 3 !== 2) tile.setVideo(window.portrait(index));
      }
    },
    [NAMES, count],
  );
  // Tiles move to their places, and portraits need a frame.
  await page.waitForTimeout(800);
}

/** Tile rectangles, and the share of the grid that they cover. */
async function measure(page) {
  return page.evaluate(() => {
    const grid = document.getElementById("grid");
    const rects = [...grid.children].map((tile) => {
      const { left, top, right, bottom, width, height } = tile.getBoundingClientRect();
      return { left, top, right, bottom, width, height };
    });
    const covered = rects.reduce((sum, { width, height }) => sum + width * height, 0);
    return { rects, share: covered / (grid.clientWidth * grid.clientHeight), sideways: document.documentElement.scrollWidth > innerWidth };
  });
}

const SIZES = {
  desktop: { width: 1280, height: 800 },
  large: { width: 1920, height: 1080 },
  phone: { width: 390, height: 844 },
  "lying phone": { width: 844, height: 390 },
  "small phone": { width: 320, height: 640 },
};
/** The least share of the grid covered, where nothing has to be scrolled. */
const LEAST_SHARE = {
  desktop: { 1: 0.9, 2: 0.65, 5: 0.7, 6: 0.85, 12: 0.9, 25: 0.85 },
  large: { 1: 0.85, 2: 0.7, 5: 0.75, 6: 0.9, 12: 0.9, 25: 0.8 },
  phone: { 1: 0.7, 2: 0.9, 5: 0.7, 6: 0.9, 12: 0.85 },
  "lying phone": { 1: 0.55, 2: 0.9, 5: 0.7, 6: 0.85 },
  "small phone": { 1: 0.7, 2: 0.9, 5: 0.7 },
};
/** Tiles are no wider than a camera's picture; how narrow they may be depends on the screen. */
const WIDEST = 16 / 9;

for (const [size, viewport] of Object.entries(SIZES)) {
  test(`tiles on a ${size} do not overlap and fill the room`, async () => {
    const page = await gridOf(0, viewport);
    for (const count of [1, 2, 5, 6, 12, 25]) {
      await fill(page, count);
      await screenshot(page, `grid-${count}-${size.replace(" ", "-")}`);
      const { rects, share, sideways } = await measure(page);
      assert.equal(rects.length, count);
      assert.ok(!sideways, "the page scrolls sideways");
      rects.forEach((a, index) => {
        const narrowest = viewport.width > viewport.height ? 4 / 3 : 3 / 4;
        const ratio = a.width / a.height;
        assert.ok(ratio < WIDEST + 0.02 && ratio > narrowest - 0.02, `tile ${index} is ${a.width} by ${a.height}`);
        for (const b of rects.slice(index + 1)) {
          assert.ok(a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top, "tiles overlap");
        }
      });
      const least = LEAST_SHARE[size][count] ?? 0;
      assert.ok(share > least, `${count} tiles cover ${share.toFixed(2)} of the grid, not ${least}`);
    }
  });
}

/** Of each picture, the share that is seen and the share of its tile that it fills. */
async function shares(page) {
  return page.evaluate(() =>
    [...document.querySelectorAll(".tile:not(.blank)")].map((tile) => {
      const video = tile.querySelector("video");
      const { clientWidth, clientHeight, videoWidth, videoHeight } = video;
      const whole = getComputedStyle(video).objectFit === "contain";
      const scales = [clientWidth / videoWidth, clientHeight / videoHeight];
      const scale = whole ? Math.min(...scales) : Math.max(...scales);
      const picture = videoWidth * videoHeight * scale ** 2;
      const seen = Math.min(clientWidth, videoWidth * scale) * Math.min(clientHeight, videoHeight * scale);
      return { seen: seen / picture, filled: seen / (clientWidth * clientHeight), upright: videoHeight > videoWidth };
    }),
  );
}

for (const [size, viewport] of Object.entries(SIZES)) {
  test(`upright and lying cameras on a ${size}: no head is cut, and an upright screen is used`, async () => {
    const page = await gridOf(0, viewport);
    for (const count of [2, 6]) {
      await page.evaluate(
        async ([names, count]) => {
          const { Tile } = await import("/grid.js");
          for (let index = document.getElementById("grid").children.length; index < count; index += 1) {
            const tile = new Tile(`u_${index}`, names[index]);
            window.testGrid.add(tile);
            tile.setVideo(index % 2 ? window.portrait(index, 360, 15, 640) : window.portrait(index));
          }
        },
        [NAMES, count],
      );
      await page.waitForTimeout(800);
      await screenshot(page, `upright-${count}-${size.replace(" ", "-")}`);
      const all = await shares(page);
      assert.equal(all.length, count);
      for (const { seen, filled, upright } of all) {
        const [what, least] = upright ? ["an upright", 0.7] : ["a lying", 0.4];
        assert.ok(seen >= least, `${count}: of ${what} picture ${seen.toFixed(2)} is seen`);
        const mayHaveBars = upright && !(count === 6 && size === "phone");
        assert.ok(mayHaveBars || filled > 0.99, `${count}: ${what} picture fills ${filled.toFixed(2)} of its tile`);
      }
    }
  });
}

test("a pinned tile takes the stage", async () => {
  const page = await gridOf(7, SIZES.desktop);
  await page.evaluate(() => window.testGrid.pin("p_3"));
  await page.waitForTimeout(500);
  await screenshot(page, "grid-pinned");
  const { rects } = await measure(page);
  const others = rects.filter((_, index) => index !== 3);
  assert.ok(others.every(({ width }) => rects[3].width > 3 * width), "the pinned tile is the largest by far");
});

test("a 4k screen, and the light scheme", async () => {
  const page = await gridOf(12, { width: 3840, height: 2160 }, "light");
  await screenshot(page, "grid-12-4k-light");
  const { share } = await measure(page);
  assert.ok(share > 0.9, `tiles cover ${share.toFixed(2)} of the grid`);
});
