/** The grid in several sizes: tiles do not overlap and use the room. */

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

/** Opens the page with so many tiles, every third one without a camera. */
async function gridOf(count, viewport, colorScheme) {
  const page = await openFromDisk(browser, { viewport, colorScheme });
  await page.addInitScript(installPortraits);
  await page.goto(NO_SERVER);
  await page.evaluate(
    async ([names, count]) => {
      const { Grid, Tile } = await import("/grid.js");
      document.body.dataset.view = "call";
      document.getElementById("room-name").textContent = "quiet-otter-42";
      document.getElementById("head-count").textContent = `${count} people`;
      document.getElementById("alone").hidden = count > 1;
      const grid = new Grid(document.getElementById("grid"));
      window.testGrid = grid;
      for (let index = 0; index < count; index += 1) {
        const tile = new Tile(`p_${index}`, names[index], { self: index === 0 });
        grid.add(tile);
        tile.setMicrophone(index % 4 !== 2);
        tile.setLevel(index === 1 ? 1 : 0);
        if (index % 3 !== 2) tile.setVideo(window.portrait(index));
      }
    },
    [NAMES, count],
  );
  await page.waitForTimeout(1500);
  return page;
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

const SIZES = { desktop: { width: 1280, height: 800 }, phone: { width: 320, height: 640 } };
/** The least share of the grid covered; 16:9 tiles cannot do better in some of these numbers. */
const LEAST_SHARE = { 1: 0.75, 2: 0.45, 5: 0.55, 12: 0.75, 25: 0.75 };

for (const count of [1, 2, 5, 12, 25]) {
  for (const [size, viewport] of Object.entries(SIZES)) {
    test(`${count} tiles on a ${size} do not overlap and fill the room`, async () => {
      const page = await gridOf(count, viewport);
      await screenshot(page, `grid-${count}-${size}`);
      const { rects, share, sideways } = await measure(page);
      assert.equal(rects.length, count);
      assert.ok(!sideways, "the page scrolls sideways");
      rects.forEach((a, index) => {
        assert.ok(Math.abs(a.width / a.height - 16 / 9) < 0.02, `tile ${index} is ${a.width} by ${a.height}`);
        for (const b of rects.slice(index + 1)) {
          assert.ok(a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top, "tiles overlap");
        }
      });
      if (size === "desktop") assert.ok(share > LEAST_SHARE[count], `tiles cover ${share.toFixed(2)} of the grid`);
    });
  }
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
  assert.ok(share > 0.75, `tiles cover ${share.toFixed(2)} of the grid`);
});
