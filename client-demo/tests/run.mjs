/**
 * Runs the client's tests one file after the other and says how many passed.
 *
 *     node client-demo/tests/run.mjs [file or part of its name…]
 *
 * CONFAB_BIN names the server's binary (default: target/release/confab, else target/debug/confab).
 * Screenshots are left in client-demo/test-results/.
 */

import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { run } from "node:test";
import { fileURLToPath } from "node:url";
import { RESULTS } from "./chromium.mjs";

const HERE = dirname(fileURLToPath(import.meta.url));
const FILE_TIMEOUT_MS = 600_000;

const wanted = process.argv.slice(2);
const files = readdirSync(HERE)
  .filter((name) => name.endsWith(".test.mjs") && (wanted.length === 0 || wanted.some((part) => name.includes(part))))
  .sort((a, b) => Number(b.startsWith("signal")) - Number(a.startsWith("signal")) || a.localeCompare(b))
  .map((name) => join(HERE, name));

let passed = 0;
let failed = 0;
const events = run({ files, concurrency: false, timeout: FILE_TIMEOUT_MS });
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
events.on("end", () => {
  console.log(`\n${passed} passed, ${failed} failed; screenshots in ${RESULTS}`);
  process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
});
events.resume();
