/**
 * Janus, configured as a careful operator would for calls on bad networks, for the same scenarios
 * to be run against.
 *
 *     node janus.mjs --address 10.1.0.1 --ws-port 8188 --dir /tmp/janus --room r
 *
 * Writes its settings to the folder, starts it, prints `{"type":"ready"}` when its WebSocket takes
 * connections, and runs until the input ends or SIGTERM comes.
 */

import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const HERE = dirname(fileURLToPath(import.meta.url));
const EXECUTABLE = process.env.CONFAB_JANUS ?? "/usr/bin/janus";
const READY_TIMEOUT_MS = 10_000;
const OPTIONS = /** @type {const} */ ({
  address: { type: "string", default: "127.0.0.1" },
  "ws-port": { type: "string", default: "8188" },
  dir: { type: "string" },
  room: { type: "string", default: "netem" },
});

/**
 * What is not named is Janus' default. Of those that matter here: NACK from both sides with RTX
 * wherever the client offers it, a retransmission buffer of at least 200 ms that grows with the
 * round-trip time, and transport-wide feedback to publishers every 200 ms.
 * @param {{address: string, dir: string}} options
 */
function coreSettings({ address, dir }) {
  return `
general: {
  configs_folder = "${dir}"
  plugins_folder = "${dir}/plugins"
  transports_folder = "${dir}/transports"
  loggers_folder = "${dir}/loggers"
  debug_level = 3
  debug_colors = false
  interface = "${address}"
  # A client whose network changes may come back; Confab's sessions wait as long.
  reclaim_session_timeout = 30
}
nat: {
  # As documented for a server with an address of its own; ICE over TCP needs it.
  ice_lite = true
  ice_tcp = true
  ice_enforce_list = "${address}"
}
media: {
  ipv6 = false
}
`;
}

/** @param {{address: string, port: string}} options */
function webSocketSettings({ address, port }) {
  return `
general: {
  json = "compact"
  ws = true
  ws_port = ${port}
  ws_ip = "${address}"
  wss = false
}
`;
}

/** @param {{room: string}} options */
function videoRoomSettings({ room }) {
  return `
general: {
  string_ids = true
}
room-${room}: {
  description = "Measured"
  publishers = 100
  # No cap: how much to send is for the sender's estimate to say, as with Confab.
  bitrate = 0
  # Key frames when somebody asks for one; regular ones would only cost bitrate.
  fir_freq = 0
  # The codecs that Confab's clients use. Naming RED here changes nothing in 1.1.2: it answers Opus
  # alone; nor does it know any FEC for video.
  audiocodec = "opus"
  videocodec = "vp8"
  opus_fec = true
  opus_dtx = false
  transport_wide_cc_ext = true
  record = false
}
`;
}

/** Where the distribution keeps Janus' modules. */
function moduleFolder() {
  const candidates = readdirSync("/usr/lib").map((name) => join("/usr/lib", name, "janus"));
  const found = candidates.find((folder) => existsSync(join(folder, "plugins")));
  if (!found) throw new Error("Janus is not installed: apt-get install janus.");
  return found;
}

/**
 * The settings, and a folder with just the modules that are wanted.
 * @param {{address: string, port: string, dir: string, room: string}} options
 */
function writeSettings({ address, port, dir, room }) {
  const modules = moduleFolder();
  mkdirSync(join(dir, "loggers"), { recursive: true });
  for (const [kind, module] of [["plugins", "libjanus_videoroom.so"], ["transports", "libjanus_websockets.so"]]) {
    mkdirSync(join(dir, kind), { recursive: true });
    const link = join(dir, kind, module);
    rmSync(link, { force: true });
    symlinkSync(join(modules, kind, module), link);
  }
  writeFileSync(join(dir, "janus.jcfg"), coreSettings({ address, dir }));
  writeFileSync(join(dir, "janus.transport.websockets.jcfg"), webSocketSettings({ address, port }));
  writeFileSync(join(dir, "janus.plugin.videoroom.jcfg"), videoRoomSettings({ room }));
}

/** @param {string} url */
async function acceptsWebSockets(url) {
  const { WebSocket } = createRequire(join(HERE, "..", "..", "client-demo", "package.json"))("ws");
  return new Promise((resolve) => {
    const socket = new WebSocket(url, "janus-protocol", { handshakeTimeout: 1_000 });
    socket.on("open", () => {
      socket.close();
      resolve(true);
    });
    socket.on("error", () => resolve(false));
  });
}

async function main() {
  const { values } = parseArgs({ options: OPTIONS });
  const { address, "ws-port": port, dir, room } = values;
  if (!dir) throw new Error("--dir is missing: the folder that Janus' settings are written to.");
  if (!/^[A-Za-z0-9_-]+$/.test(room)) throw new Error(`--room is made of letters, digits, - and _, not ${room}.`);
  writeSettings({ address, port, dir, room });
  const child = spawn(EXECUTABLE, [`--configs-folder=${dir}`, `--config=${join(dir, "janus.jcfg")}`], { stdio: ["ignore", process.stderr, process.stderr] });
  let stopping = false;
  const stop = () => {
    stopping = true;
    child.kill("SIGTERM");
  };
  child.on("error", (error) => fail(`Janus does not start: ${error.message}.`));
  child.on("exit", (code) => {
    if (stopping) process.exit(0);
    fail(`Janus ended with status ${code}.`);
  });
  process.on("SIGTERM", stop);
  process.on("SIGINT", stop);
  process.stdin.on("end", stop).resume();
  const deadline = Date.now() + READY_TIMEOUT_MS;
  while (!(await acceptsWebSockets(`ws://${address}:${port}`))) {
    if (Date.now() > deadline) {
      child.kill("SIGKILL");
      throw new Error(`Janus takes no connections at ${address}:${port}; in a network namespace the loopback interface must be up.`);
    }
    await new Promise((done) => setTimeout(done, 50));
  }
  process.stdout.write('{"type":"ready"}\n');
}

/** @param {string} why */
function fail(why) {
  process.stdout.write(`${JSON.stringify({ type: "failed", at: Date.now(), why })}\n`);
  process.exit(1);
}

main().catch((error) => fail(error.message));
