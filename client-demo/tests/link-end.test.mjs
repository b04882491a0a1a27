/** A link, and its access token, that ends: said before it does, and when it has. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { callProblem } from "../web/words.js";
import { NO_SERVER, openFromDisk, screenshot } from "./chromium.mjs";
import { browser, withBrowser } from "./fixture.mjs";

withBrowser();

const ENDED = "Your link has ended; ask for a new one.";

test("a link that has ended is called so, before a call and in it, and no other refusal is", () => {
  const message = "The token is of no use.";
  assert.equal(callProblem({ code: "token_expired", message }), ENDED);
  assert.equal(callProblem({ code: "unauthorized", message, reason: "expired" }, { joining: true }), ENDED);
  assert.match(callProblem({ code: "unauthorized", message, reason: "bad_signature" }), /did not let you in: The token is of no use\.$/);
});

test("the page says a minute before that the link ends, visibly and without interrupting anybody", async () => {
  const page = await openFromDisk(browser, { viewport: { width: 390, height: 844 } });
  await page.goto(NO_SERVER);
  const words = () => page.textContent("#call-ending");
  await page.evaluate(async () => {
    const [{ Call }, { CallView }, { Grid }] = await Promise.all(["/sdk/confab.js", "/call-view.js", "/grid.js"].map((path) => import(path)));
    document.body.dataset.view = "call";
    window.call = new Call({ room: "kitchen" });
    window.view = new CallView(window.call, new Grid(document.getElementById("grid"), () => {}), { name: "Ada", room: "kitchen" });
  });
  assert.equal(await words(), "");
  // Screen readers follow a region that is there before its words are.
  const region = page.getByRole("status").and(page.locator("#call-ending"));
  assert.equal(await region.evaluate((element) => getComputedStyle(element).display !== "none"), true);
  await page.evaluate(() => window.call.emit("tokenexpires", { inMs: 60_000 }));
  await page.waitForSelector("#call-ending .banner:visible");
  assert.match(await words(), /^Your link ends in 60 s\b.*new one/);
  await screenshot(page, "link-ends");
  // What is well again is not the link.
  await page.evaluate(() => window.call.emit("state", { state: "connected", signaling: true, media: true }));
  assert.match(await words(), /^Your link ends/);
  await page.evaluate(() => window.view.close());
  assert.equal(await words(), "");
});
