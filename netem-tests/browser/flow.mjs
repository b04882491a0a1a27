/**
 * A flow of TCP beside a call: iperf3, with the congestion control that Linux has by default, Cubic.
 *
 *     node flow.mjs --server 203.0.113.1:5201 --direction down
 *
 * It understands the words and writes the lines of a participant (`participant.mjs`): it begins at
 * `join` and ends at `leave` or with its input. A sample a second says how much has been carried.
 */

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";

const EXECUTABLE = "iperf3";
/** Longer than any call, seconds. */
const DURATION = "86400";
/** An interval as iperf3 prints it: its beginning and end in seconds, and its rate. */
const INTERVAL = /^\[ *\d+\] +([\d.]+)-([\d.]+) +sec .*? ([\d.]+) Kbits\/sec/;

const { values } = parseArgs({
  options: {
    server: { type: "string" },
    direction: { type: "string", default: "down" },
  },
});

/** @param {object} line */
function tell(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

/** @param {string} why A sentence. */
function fail(why) {
  tell({ type: "failed", at: Date.now(), why });
  process.exit(1);
}

/** @type {import("node:child_process").ChildProcess | null} */
let iperf = null;

function join() {
  const [host, port] = (values.server ?? "").split(":");
  const args = ["--client", host, "--port", port, "--time", DURATION, "--interval", "1", "--format", "k", "--forceflush"];
  if (values.direction === "down") args.push("--reverse");
  tell({ type: "joining", at: Date.now() });
  iperf = spawn(EXECUTABLE, args, { stdio: ["ignore", "pipe", "inherit"] });
  iperf.on("error", (error) => fail(`iperf3 does not start: ${error.message}; install the package iperf3.`));
  iperf.on("exit", (code) => fail(`iperf3 ended with status ${code}.`));
  let carried = 0;
  let joined = false;
  createInterface({ input: /** @type {import("node:stream").Readable} */ (iperf.stdout) }).on("line", (text) => {
    console.error(text);
    if (!joined && text.includes("connected to")) {
      joined = true;
      tell({ type: "joined", at: Date.now() });
    }
    const [, from, to, rate] = INTERVAL.exec(text) ?? [];
    if (rate === undefined) return;
    carried += (Number(rate) * 1000 * (Number(to) - Number(from))) / 8;
    tell({ type: "sample", at: Date.now(), flow_bytes: Math.round(carried) });
  });
}

function leave() {
  iperf?.kill("SIGKILL");
  process.exit(0);
}

const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => {
  if (line.trim() === "join") join();
  else if (line.trim() === "leave") leave();
});
lines.on("close", leave);
process.on("SIGTERM", leave);
process.on("SIGINT", leave);
tell({ type: "ready" });
