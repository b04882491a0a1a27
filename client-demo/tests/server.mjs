/**
 * The server under test: its own process on free ports, stopped by its id.
 */

import { spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { createServer } from "node:net";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
/** One worker per core is the server's default; so many ports are looked for in a row. */
const MAX_WORKERS = 8;
/** Where media ports are looked for: below the range the kernel hands out by itself. */
const MEDIA_PORTS = { from: 20_000, to: 32_000 };
const READY_TIMEOUT_MS = 15_000;

function binary() {
  const candidates = process.env.CONFAB_BIN
    ? [process.env.CONFAB_BIN]
    : ["release", "debug"].map((profile) => join(ROOT, "target", profile, "confab"));
  const found = candidates.find((path) => existsSync(path));
  if (!found) throw new Error(`no server binary: build one with cargo build --release, or set CONFAB_BIN (looked for ${candidates.join(", ")})`);
  return found;
}

export class Server {
  #child = null;
  #httpPort = 0;
  #mediaPort = 0;
  log = "";

  static async start() {
    const server = new Server();
    server.#httpPort = await freeTcpPort();
    server.#mediaPort = await freeUdpPorts();
    await server.restart();
    return server;
  }

  get url() {
    return `http://127.0.0.1:${this.#httpPort}`;
  }

  /** Starts it, after `kill`, on the same ports again. */
  async restart() {
    const child = spawn(binary(), ["--http-listen", `127.0.0.1:${this.#httpPort}`, "--media-port", String(this.#mediaPort)], {
      stdio: ["ignore", "pipe", "pipe"],
      env: withoutSettings(),
    });
    this.#child = child;
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (this.log += data));
    const deadline = Date.now() + READY_TIMEOUT_MS;
    while (!(await this.#isReady())) {
      if (child.exitCode !== null || Date.now() > deadline) throw new Error(`the server did not start:\n${this.log}`);
      await new Promise((done) => setTimeout(done, 50));
    }
  }

  async #isReady() {
    try {
      return (await fetch(`${this.url}/health/ready`)).ok;
    } catch {
      return false;
    }
  }

  /** Ends it at once, as a crash would. */
  async kill() {
    const child = this.#child;
    this.#child = null;
    if (!child || child.exitCode !== null) return;
    const exited = once(child, "exit");
    child.kill("SIGKILL");
    await exited;
  }
}

/** The tests' own CONFAB_ variables are no settings of the server, and a developer's are not wanted. */
function withoutSettings() {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("CONFAB_")));
}

async function freeTcpPort() {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address();
  probe.close();
  await once(probe, "close");
  return port;
}

async function freeUdpPorts() {
  for (;;) {
    const first = MEDIA_PORTS.from + Math.floor(Math.random() * (MEDIA_PORTS.to - MEDIA_PORTS.from));
    const free = await Promise.all(Array.from({ length: MAX_WORKERS }, (_, index) => isUdpPortFree(first + index)));
    if (free.every(Boolean)) return first;
  }
}

function isUdpPortFree(port) {
  return new Promise((resolve) => {
    const probe = createSocket("udp4");
    probe.once("error", () => resolve(false));
    probe.bind(port, "127.0.0.1", () => probe.close(() => resolve(true)));
  });
}
