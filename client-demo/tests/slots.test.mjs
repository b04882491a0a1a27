/** Which tracks can be shown: what the server says of slots, and what there is at this end, in any order. */

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { Slots } from "../sdk/slots.js";

const PAUSE = { reason: "no_bandwidth", message: "No room." };

let slots;
let tracks;
let receivers;
let told;
beforeEach(() => {
  tracks = new Map(["a", "b"].map((id) => [id, { id, kind: "video", mediaStreamTrack: null, paused: null }]));
  receivers = new Map();
  told = [];
  slots = new Slots({
    receivers: () => receivers,
    find: (id) => tracks.get(id),
    onShown: ({ id, mediaStreamTrack }) => told.push(`${id} on ${mediaStreamTrack.name}`),
    onHidden: ({ id, mediaStreamTrack }) => told.push(`${id} off ${mediaStreamTrack}`),
    onPause: ({ id, paused }) => told.push(`${id} ${paused?.reason ?? "goes on"}`),
  });
});

/** There is such a slot at this end, with media of its own. */
function negotiate(mid, name = `media ${mid}`) {
  receivers.set(mid, { track: { kind: "video", name } });
}

/** What was told since it was last asked. */
function since() {
  slots.show();
  return told.splice(0);
}

test("a track is shown once it has a slot and the slot has media, and once only", () => {
  slots.handleAnswer([{ mid: "1", track: "a" }, { mid: "2", track: null }]);
  assert.deepEqual(since(), []);
  negotiate("1");
  negotiate("2");
  assert.deepEqual(since(), ["a on media 1"]);
  assert.deepEqual(since(), []);
  assert.equal(slots.slotOf("a"), "1");
  assert.equal(slots.lastOf("video"), "2");
  // One that is being offered.
  negotiate("3");
  assert.equal(slots.lastOf("video"), "2");
  assert.equal(slots.receiverOf("a"), receivers.get("1"));
  assert.deepEqual([...slots.shownByMid()], [["1", "a"]]);
});

test("a slot that another track gets takes the first one's picture away", () => {
  negotiate("1");
  slots.assign("1", "a");
  since();
  slots.assign("1", "b");
  assert.deepEqual(since(), ["a off null", "b on media 1"]);
  // Somebody of whom nothing is known yet.
  slots.assign("1", "c");
  assert.deepEqual(since(), ["b off null"]);
  tracks.set("c", { id: "c", kind: "video", mediaStreamTrack: null, paused: null });
  assert.deepEqual(since(), ["c on media 1"]);
});

test("a track that moves to another slot, or to another connection, is shown anew", () => {
  negotiate("1");
  negotiate("2");
  slots.assign("1", "a");
  since();
  slots.handleAnswer([{ mid: "2", track: "a" }]);
  assert.deepEqual(since(), ["a off null", "a on media 2"]);
  negotiate("2", "new media 2");
  assert.deepEqual(since(), ["a off null", "a on new media 2"]);
  slots.forget();
  assert.deepEqual(since(), ["a off null"]);
});

test("a pause is the slot's, and ends with what it was of", () => {
  negotiate("1");
  slots.assign("1", "a");
  since();
  slots.pause("1", PAUSE);
  assert.deepEqual(since(), ["a no_bandwidth"]);
  slots.assign("1", "a");
  assert.deepEqual(since(), []);
  slots.pause("1", null);
  assert.deepEqual(since(), ["a goes on"]);
  slots.pause("1", PAUSE);
  slots.assign("1", "b");
  assert.deepEqual(since(), ["a no_bandwidth", "a off null", "b on media 1"]);
  // Said before the track could be shown.
  slots.hide("b");
  slots.assign("1", "a");
  slots.pause("1", PAUSE);
  assert.deepEqual(since(), ["b off null", "a on media 1", "a no_bandwidth"]);
});
