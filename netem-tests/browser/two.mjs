/**
 * Two participants in one call without any impairment: whether browser, page and server do
 * what a measurement takes for granted, and what they cost.
 *
 *     node two.mjs --server-kind confab --url ws://127.0.0.1:8080/v1/ws [--seconds 15] [--size 640x360] [--simulcast | --no-simulcast]
 */

import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const HERE = dirname(fileURLToPath(import.meta.url));
/** Clock ticks a second in /proc, on every Linux there is. */
const TICKS = 100;
const { values } = parseArgs({
  options: {
    "server-kind": { type: "string", default: "confab" },
    url: { type: "string", default: "ws://127.0.0.1:8080/v1/ws" },
    room: { type: "string", default: "netem" },
    seconds: { type: "string", default: "15" },
    size: { type: "string", default: "640x360" },
    simulcast: { type: "boolean", default: false },
    "no-simulcast": { type: "boolean", default: false },
  },
});
const seconds = Number(values.seconds);

class Participant {
  lines = [];
  #startedAt = Date.now();
  #child;
  #waiting = [];

  /** @param {string} name */
  constructor(name) {
    this.name = name;
    const flags = ["--server-kind", values["server-kind"], "--url", values.url, "--room", values.room, "--size", values.size, "--name", name];
    for (const flag of ["simulcast", "no-simulcast"]) if (values[flag]) flags.push(`--${flag}`);
    this.#child = spawn(process.execPath, [join(HERE, "participant.mjs"), ...flags], { stdio: ["pipe", "pipe", "inherit"] });
    this.exited = new Promise((resolve) => this.#child.on("exit", resolve));
    createInterface({ input: this.#child.stdout }).on("line", (text) => {
      const line = JSON.parse(text);
      if (line.type === "failed") throw new Error(`${name}: ${line.why}`);
      this.lines.push(line);
      for (const check of this.#waiting) check();
    });
  }

  get processId() {
    return this.#child.pid;
  }

  /** @param {string} word */
  say(word) {
    this.#child.stdin.write(`${word}\n`);
  }

  /** @param {string} type */
  async hears(type) {
    const found = () => this.lines.find((line) => line.type === type);
    await new Promise((resolve) => {
      const check = () => found() && resolve(undefined);
      this.#waiting.push(check);
      check();
    });
    return found();
  }

  get samples() {
    return this.lines.filter(({ type }) => type === "sample");
  }

  get startUpMs() {
    return this.readyAt - this.#startedAt;
  }

  async ready() {
    await this.hears("ready");
    this.readyAt = Date.now();
  }
}

/** Processor seconds used by a process and all below it. */
function processorSeconds(root) {
  const children = new Map();
  const used = new Map();
  for (const entry of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const fields = readFileSync(`/proc/${entry}/stat`, "utf8").split(") ")[1].split(" ");
      const parent = Number(fields[1]);
      children.set(parent, [...(children.get(parent) ?? []), Number(entry)]);
      used.set(Number(entry), (Number(fields[11]) + Number(fields[12])) / TICKS);
    } catch {
      continue; // It has ended meanwhile.
    }
  }
  const sum = (id) => (used.get(id) ?? 0) + (children.get(id) ?? []).reduce((total, child) => total + sum(child), 0);
  return sum(root);
}

function median(numbers) {
  return [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)];
}

const people = [new Participant("alice"), new Participant("bob")];
await Promise.all(people.map((person) => person.ready()));
for (const person of people) person.say("join");
await Promise.all(people.map((person) => person.hears("first_frame")));
const half = Math.ceil(seconds / 3);
await new Promise((done) => setTimeout(done, half * 1000));
const before = people.map(({ processId }) => processorSeconds(processId));
const from = people.map(({ samples }) => samples.at(-1));
await new Promise((done) => setTimeout(done, (seconds - half) * 1000));
people.forEach((person, index) => {
  const first = from[index];
  const last = person.samples.at(-1);
  const time = (last.at - first.at) / 1000;
  const at = (type) => Math.round(person.lines.find((line) => line.type === type).at - person.lines.find((line) => line.type === "joining").at);
  const [now] = last.received;
  const [then] = first.received;
  const delays = person.samples.flatMap(({ received }) => received[0]?.video?.picture_delays ?? []);
  const late = delays.slice(-delays.length / 4);
  const rate = (a, b) => ((a - b) / time).toFixed(1);
  console.log([
    `${person.name}: ready after ${person.startUpMs} ms, joined ${at("joined")} ms, connected ${at("connected")} ms, first frame ${at("first_frame")} ms`,
    `  sends ${rate(last.sent.frames_encoded, first.sent.frames_encoded)} fps at ${last.sent.height}, ${rate(last.sent.video_bytes * 0.008, first.sent.video_bytes * 0.008)} kbit/s, aims at ${Math.round(last.sent.target_bitrate / 1000)}; ${last.path}, ${last.rtt_ms} ms, may send ${Math.round(last.available_outgoing / 1000)}`,
    `  sees ${now.from} at ${rate(now.video.frames, then.video.frames)} fps, ${now.video.width}x${now.video.height}, ${now.video.freezes} freezes (${now.video.frozen.toFixed(2)} s), ${delays.length} delays of about ${median(delays)} ms (at the end ${median(late)}), ${Math.min(...delays)} to ${Math.max(...delays)}`,
    `  hears ${(100 * (now.audio.concealed / now.audio.samples)).toFixed(2)} % concealed over all, ${((100 * (now.audio.concealed - then.audio.concealed)) / (now.audio.samples - then.audio.samples)).toFixed(2)} % lately, ${rate(now.audio.bytes * 0.008, then.audio.bytes * 0.008)} kbit/s`,
    `  uses ${((100 * (processorSeconds(person.processId) - before[index])) / (seconds - half)).toFixed(0)} % of a core`,
  ].join("\n"));
});
for (const person of people) person.say("leave");
console.log("exit status", await Promise.all(people.map((person) => person.exited)));
