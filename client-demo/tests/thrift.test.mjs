/** Which encodings a sender sends, against a sender that does what browsers do. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Thrift } from "../sdk/thrift.js";

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
  const thrift = new Thrift();
  const { sender, sending } = published(3);
  thrift.handleLayers("t_1", [true, true, false]);
  await thrift.apply(sending);
  assert.deepEqual(sender.active, [true, true, false]);
  thrift.handleLayers("t_1", [true, true, true]);
  await thrift.apply(sending);
  assert.deepEqual(sender.active, [true, true, true]);
});

test("a picture in one size takes no more than every receiver can be sent", async () => {
  for (const own of [undefined, 2_500_000]) {
    const thrift = new Thrift();
    const { sender, sending } = published(1);
    sending.encodings = [own === undefined ? {} : { maxBitrate: own }];
    await thrift.apply(sending);
    for (const [limit, rate] of [[300_000, 300_000], [3_000_000, own ?? 3_000_000], [undefined, own], [200_000, 200_000], [undefined, own]]) {
      thrift.handleLayers("t_1", [true], limit);
      await thrift.apply(sending);
      assert.deepEqual(sender.rates, [rate]);
    }
  }
  // Of several the server chooses one.
  const thrift = new Thrift();
  const { sender, sending } = published(3);
  thrift.handleLayers("t_1", [true, true, true], 300_000);
  await thrift.apply(sending);
  assert.equal(sender.changes, 0);
});

test("a picture without simulcast is one encoding", async () => {
  const thrift = new Thrift();
  const { sender, sending } = published(1);
  thrift.handleLayers("t_1", [false]);
  await thrift.apply(sending);
  assert.deepEqual(sender.active, [false]);
});

test("nothing is changed that is as it should be", async () => {
  const thrift = new Thrift();
  const { sender, sending } = published(3);
  await thrift.apply(sending);
  thrift.handleLayers("t_1", [true, true, true]);
  await thrift.apply(sending);
  assert.equal(sender.changes, 0);
});

test("changes come one after the other, and the last word stands", async () => {
  const thrift = new Thrift();
  const { sender, sending } = published(3);
  const applied = [[false, false, false], [true, false, false], [true, true, false]].map((encodings) => {
    thrift.handleLayers("t_1", encodings);
    return thrift.apply(sending);
  });
  await Promise.all(applied);
  assert.deepEqual(sender.active, [true, true, false]);
});

test("what a negotiation refused is done after it", async () => {
  const thrift = new Thrift();
  const { sender, sending } = published(3);
  sender.isNegotiating = true;
  thrift.handleLayers("t_1", [true, false, false]);
  await thrift.apply(sending);
  assert.deepEqual(sender.active, [true, true, true]);
  sender.isNegotiating = false;
  await thrift.apply(sending);
  assert.deepEqual(sender.active, [true, false, false]);
});

test("what comes before the track has its id is not lost", async () => {
  const thrift = new Thrift();
  const { sender, sending } = published(3, null);
  thrift.handleLayers("t_1", [true, false, false]);
  await thrift.apply(sending);
  assert.deepEqual(sender.active, [true, true, true]);
  sending.id = "t_1";
  await thrift.apply(sending);
  assert.deepEqual(sender.active, [true, false, false]);
});

test("another publication on the same m-line begins with everything", async () => {
  const thrift = new Thrift();
  const { sender, sending } = published(3);
  thrift.handleLayers("t_1", [false, false, false]);
  await thrift.apply(sending);
  sending.transceiver = null;
  thrift.forget("t_1");
  await thrift.apply({ id: null, transceiver: { sender } });
  assert.deepEqual(sender.active, [true, true, true]);
});

test("what suits another camera is set with what is received, and nobody is left without a picture", async () => {
  const thrift = new Thrift();
  const { sender, sending } = published(3);
  sending.encodings = [{ active: false, maxBitrate: 1 }, { active: true, maxBitrate: 2 }, { active: true, maxBitrate: 3 }];
  await thrift.apply(sending);
  assert.deepEqual(sender.active, [false, true, true]);
  // Only the one that is too small now is received.
  thrift.handleLayers("t_1", [true, false, false]);
  await thrift.apply(sending);
  assert.deepEqual(sender.active, [false, true, false]);
  thrift.handleLayers("t_1", [false, false, false]);
  await thrift.apply(sending);
  assert.deepEqual(sender.active, [false, false, false]);
});
