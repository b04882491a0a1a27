/** Which encodings a sender sends, against a sender that does what browsers do. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { WantedLayers } from "../sdk/wanted-layers.js";

/** Stands in for RTCRtpSender: parameters are good for one change, and a negotiation refuses any. */
class FakeSender {
  #transaction = 0;
  active;
  changes = 0;
  isNegotiating = false;
  constructor(encodings) {
    this.active = Array(encodings).fill(true);
    this.rates = Array(encodings).fill(undefined);
  }
  getParameters() {
    this.#transaction += 1;
    return { transactionId: this.#transaction, encodings: this.active.map((active, index) => ({ active, ...(this.rates[index] && { maxBitrate: this.rates[index] }) })) };
  }
  async setParameters({ transactionId, encodings }) {
    if (this.isNegotiating || transactionId !== this.#transaction) throw new DOMException("", "InvalidModificationError");
    await new Promise(setImmediate);
    this.#transaction += 1;
    this.changes += 1;
    this.active = encodings.map(({ active }) => active);
    this.rates = encodings.map(({ maxBitrate }) => maxBitrate);
  }
}

function published(encodings, id = "t_1") {
  const sender = new FakeSender(encodings);
  return { sender, sending: { id, transceiver: { sender } } };
}

test("only what somebody receives is sent", async () => {
  const wantedLayers = new WantedLayers();
  const { sender, sending } = published(3);
  wantedLayers.handleLayers("t_1", [true, true, false]);
  await wantedLayers.apply(sending);
  assert.deepEqual(sender.active, [true, true, false]);
  wantedLayers.handleLayers("t_1", [true, true, true]);
  await wantedLayers.apply(sending);
  assert.deepEqual(sender.active, [true, true, true]);
});

test("a picture in one size takes no more than every receiver can be sent", async () => {
  for (const own of [undefined, 2_500_000]) {
    const wantedLayers = new WantedLayers();
    const { sender, sending } = published(1);
    sending.encodings = [own === undefined ? {} : { maxBitrate: own }];
    await wantedLayers.apply(sending);
    for (const [limit, rate] of [[300_000, 300_000], [3_000_000, own ?? 3_000_000], [undefined, own], [200_000, 200_000], [undefined, own]]) {
      wantedLayers.handleLayers("t_1", [true], limit);
      await wantedLayers.apply(sending);
      assert.deepEqual(sender.rates, [rate]);
    }
  }
  // Of several the server chooses one.
  const wantedLayers = new WantedLayers();
  const { sender, sending } = published(3);
  wantedLayers.handleLayers("t_1", [true, true, true], 300_000);
  await wantedLayers.apply(sending);
  assert.equal(sender.changes, 0);
});

test("a picture without simulcast is one encoding", async () => {
  const wantedLayers = new WantedLayers();
  const { sender, sending } = published(1);
  wantedLayers.handleLayers("t_1", [false]);
  await wantedLayers.apply(sending);
  assert.deepEqual(sender.active, [false]);
});

test("nothing is changed that is as it should be", async () => {
  const wantedLayers = new WantedLayers();
  const { sender, sending } = published(3);
  await wantedLayers.apply(sending);
  wantedLayers.handleLayers("t_1", [true, true, true]);
  await wantedLayers.apply(sending);
  assert.equal(sender.changes, 0);
});

test("changes come one after the other, and the last word stands", async () => {
  const wantedLayers = new WantedLayers();
  const { sender, sending } = published(3);
  const applied = [[false, false, false], [true, false, false], [true, true, false]].map((encodings) => {
    wantedLayers.handleLayers("t_1", encodings);
    return wantedLayers.apply(sending);
  });
  await Promise.all(applied);
  assert.deepEqual(sender.active, [true, true, false]);
});

test("what a negotiation refused is done after it", async () => {
  const wantedLayers = new WantedLayers();
  const { sender, sending } = published(3);
  sender.isNegotiating = true;
  wantedLayers.handleLayers("t_1", [true, false, false]);
  await wantedLayers.apply(sending);
  assert.deepEqual(sender.active, [true, true, true]);
  sender.isNegotiating = false;
  await wantedLayers.apply(sending);
  assert.deepEqual(sender.active, [true, false, false]);
});

test("what comes before the track has its id is not lost", async () => {
  const wantedLayers = new WantedLayers();
  const { sender, sending } = published(3, null);
  wantedLayers.handleLayers("t_1", [true, false, false]);
  await wantedLayers.apply(sending);
  assert.deepEqual(sender.active, [true, true, true]);
  sending.id = "t_1";
  await wantedLayers.apply(sending);
  assert.deepEqual(sender.active, [true, false, false]);
});

test("another publication on the same m-line begins with everything", async () => {
  const wantedLayers = new WantedLayers();
  const { sender, sending } = published(3);
  wantedLayers.handleLayers("t_1", [false, false, false]);
  await wantedLayers.apply(sending);
  sending.transceiver = null;
  wantedLayers.forget("t_1");
  await wantedLayers.apply({ id: null, transceiver: { sender } });
  assert.deepEqual(sender.active, [true, true, true]);
});

test("what suits another camera is set with what is received, and nobody is left without a picture", async () => {
  const wantedLayers = new WantedLayers();
  const { sender, sending } = published(3);
  sending.encodings = [{ active: false, maxBitrate: 1 }, { active: true, maxBitrate: 2 }, { active: true, maxBitrate: 3 }];
  await wantedLayers.apply(sending);
  assert.deepEqual(sender.active, [false, true, true]);
  // Only the one that is too small now is received.
  wantedLayers.handleLayers("t_1", [true, false, false]);
  await wantedLayers.apply(sending);
  assert.deepEqual(sender.active, [false, true, false]);
  wantedLayers.handleLayers("t_1", [false, false, false]);
  await wantedLayers.apply(sending);
  assert.deepEqual(sender.active, [false, false, false]);
});
