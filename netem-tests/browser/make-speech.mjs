/**
 * Writes what the participants say: a voice for twelve seconds, which the browser repeats, the same in
 * every run. A participant makes its own when it is given none; many of them are ready sooner with one.
 *
 *     node make-speech.mjs FILE
 */

import { writeFileSync } from "node:fs";
import { speechWav } from "../../client-demo/tests/speech.mjs";

const [file] = process.argv.slice(2);
if (!file) {
  console.error("Name the WAV file to write.");
  process.exit(1);
}
writeFileSync(file, speechWav());
