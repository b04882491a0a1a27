/**
 * Runs the client's tests and says how many passed. Those with calls run one file after the other; beside
 * them those that need no server, which leave the cores alone for most of their time.
 *
 *     node client-demo/tests/run.mjs [file or part of its name…]
 *
 * CONFAB_BIN names the server's binary (default: target/release/confab, else target/debug/confab).
 * Screenshots are left in client-demo/test-results/.
 */

import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { run } from "node:test";
import { fileURLToPath } from "node:url";
import { RESULTS } from "./chromium.mjs";

const HERE = dirname(fileURLToPath(import.meta.url));
const FILE_TIMEOUT_MS = 600_000;

const wanted = process.argv.slice(2);
const files = readdirSync(HERE)
  .filter((name) => name.endsWith(".test.mjs") && (wanted.length === 0 || wanted.some((part) => name.includes(part))))
  .sort()
  .map((name) => join(HERE, name));

const hasCalls = (file) => /withServer|withBothBrowsers|Server\.start/.test(readFileSync(file, "utf8"));
const lanes = [files.filter(hasCalls), files.filter((file) => !hasCalls(file))];

let passed = 0;
let failed = 0;
const finished = lanes.filter((lane) => lane.length > 0).map((lane) => {
  const events = run({ files: lane, concurrency: false, timeout: FILE_TIMEOUT_MS });
  events.on("test:pass", ({ name, details }) => {
    if (details.type === "suite" || files.includes(name)) return;
    passed += 1;
    console.log(`ok      ${name} (${(details.duration_ms / 1000).toFixed(1)} s)`);
  });
  events.on("test:fail", ({ name, details }) => {
    failed += 1;
    const { cause } = details.error;
    console.log(`FAILED  ${name}\n${cause?.stack ?? cause ?? details.error}`);
  });
  events.on("test:diagnostic", ({ message, file }) => {
    if (file && !/^(tests|suites|pass|fail|cancelled|skipped|todo|duration_ms) /.test(message)) console.log(`        ${message}`);
  });
  events.on("test:stderr", ({ message }) => process.stderr.write(message));
  events.resume();
  return once(events, "end");
});
await Promise.all(finished);
console.log(`\n${passed} passed, ${failed} failed; screenshots in ${RESULTS}`);
process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
