/**
 * The server under test: its own process on free ports, stopped by its id.
 */

import { execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { createServer } from "node:net";
import { networkInterfaces } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
/** One worker per core is the server's default; so many ports are looked for in a row. */
const MAX_WORKERS = 8;
/** Where media ports are looked for: below the range the kernel hands out by itself. */
const MEDIA_PORTS = { from: 20_000, to: 32_000 };
const READY_TIMEOUT_MS = 15_000;
/** Signs tokens of servers that listen beyond loopback, and is forgotten with them. */
const API_KEY = { CONFAB_AUTH_API_KEY: "test", CONFAB_AUTH_API_SECRET: randomBytes(32).toString("hex") };

function binary() {
  const candidates = process.env.CONFAB_BIN
    ? [process.env.CONFAB_BIN]
    : ["release", "debug"].map((profile) => join(ROOT, "target", profile, "confab"));
  const found = candidates.find((path) => existsSync(path));
  if (!found) throw new Error(`no server binary: build one with cargo build --release, or set CONFAB_BIN (looked for ${candidates.join(", ")})`);
  return found;
}

/** @typedef {"own" | "media"} RelayPort */

export class Server {
  #child = null;
  #httpPort = 0;
  #mediaPort = 0;
  #mediaAddress = "127.0.0.1";
  /** @type {RelayPort | undefined} */
  #relay;
  #tokens = false;
  /** The one port for everything over TCP, if there is one. */
  onePort = 0;
  log = "";

  /**
   * @param {string} [mediaAddress] Where media is received. Beyond loopback, joining needs a token.
   * @param {{relay?: RelayPort, onePort?: boolean, tokens?: boolean}} [options] Whether there is a TURN relay, on a port of its own or on that of media;
   *   whether everything over TCP is on the port of HTTPS; and whether joining needs a token on loopback too.
   */
  static async start(mediaAddress = "127.0.0.1", { relay, onePort, tokens = false } = {}) {
    const server = new Server();
    server.#mediaAddress = mediaAddress;
    server.#relay = relay;
    server.#tokens = tokens || mediaAddress !== "127.0.0.1";
    server.#httpPort = await freeTcpPort();
    if (onePort) server.onePort = await freeTcpPort();
    server.#mediaPort = await freeUdpPorts(mediaAddress);
    await server.restart();
    return server;
  }

  get url() {
    return `http://127.0.0.1:${this.#httpPort}`;
  }

  /** Starts it, after `kill`, on the same ports again. */
  async restart() {
    const flags = [
      `--http-listen=127.0.0.1:${this.#httpPort}`,
      `--media-listen=${this.#mediaAddress}`,
      `--media-port=${this.#mediaPort}`,
      `--turn-listen=${this.#turn()}`,
    ];
    if (this.onePort) {
      flags.push(`--http-tls-listen=${this.#mediaAddress}:${this.onePort}`, "--http-tls-self-signed=true", "--http-tls-shared=true");
    }
    // Where there is one port of media, nothing else is needed.
    if (this.#relay === "media") flags.push("--media-workers=1");
    const child = spawn(binary(), flags, { stdio: ["ignore", "pipe", "pipe"], env: this.#environment() });
    this.#child = child;
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (this.log += data));
    const deadline = Date.now() + READY_TIMEOUT_MS;
    while (!(await this.#isReady())) {
      if (child.exitCode !== null || Date.now() > deadline) throw new Error(`the server did not start:\n${this.log}`);
      await new Promise((done) => setTimeout(done, 50));
    }
  }

  #turn() {
    if (!this.#relay) return "off";
    return `${this.#mediaAddress}:${this.#relay === "own" ? 0 : this.#mediaPort}`;
  }

  /** What lets one into a room of a server that asks for tokens. */
  token(room, identity, ...flags) {
    return execFileSync(binary(), ["token", "--room", room, "--identity", identity, ...flags], { env: this.#environment(), encoding: "utf8" }).trim();
  }

  /** Without the tests' own CONFAB_ variables, which are no settings, and without a developer's. */
  #environment() {
    const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith("CONFAB_"));
    return { ...Object.fromEntries(inherited), ...(this.#tokens && API_KEY) };
  }

  async #isReady() {
    try {
      return (await fetch(`${this.url}/health/ready`)).ok;
    } catch {
      return false;
    }
  }

  /** Asks it to stop, as an operator would. */
  stop() {
    this.#child?.kill("SIGTERM");
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

/** An address of this machine that is not loopback, if it has one. Packets to it stay inside. */
export function ownAddress() {
  const all = Object.values(networkInterfaces()).flat();
  return all.find(({ family, internal }) => family === "IPv4" && !internal)?.address;
}

async function freeTcpPort() {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address();
  probe.close();
  await once(probe, "close");
  return port;
}

async function freeUdpPorts(address) {
  for (;;) {
    const first = MEDIA_PORTS.from + Math.floor(Math.random() * (MEDIA_PORTS.to - MEDIA_PORTS.from));
    const free = await Promise.all(Array.from({ length: MAX_WORKERS }, (_, index) => isUdpPortFree(address, first + index)));
    if (free.every(Boolean)) return first;
  }
}

function isUdpPortFree(address, port) {
  return new Promise((resolve) => {
    const probe = createSocket("udp4");
    probe.once("error", () => resolve(false));
    probe.bind(port, address, () => probe.close(() => resolve(true)));
  });
}
