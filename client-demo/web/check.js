/**
 * The page that says whether calls will work from here: devices, signaling, and each way of media.
 *
 * The address may say `?room=…`, and behind the hash `#token=…`, as that of the call page; with a token
 * the room must be the token's. Without one a room is made up that nobody else is in.
 */

import { pause, TestPicture, tryWay, WAYS } from "./check-paths.js";
import { deviceFinding, signalingFinding, verdict, WAY_NAMES, wayFinding } from "./check-words.js";
import { listDevices } from "./devices.js";
import { byId, create } from "./dom.js";
import { ConfabError, signalingUrl } from "./sdk/confab.js";
import { Signal } from "./sdk/signal.js";
import { callProblem, firefoxOnLoopback } from "./words.js";

/** @import { Outcomes, Finding } from "./check-words.js" */
/** @import { Exchange, Way } from "./check-paths.js" */
/** @import { Device } from "./words.js" */
/** @import { IceServersInfo } from "./sdk/types.js" */

/** How long signaling may take to come up, and each answer of it, milliseconds. */
const SIGNALING_MS = 6_000;
/** How long a way may take with its signaling, milliseconds, so that all is over within half a minute. */
const WAY_MS = 22_000;
/** Pings whose quickest answer is the round trip. */
const PINGS = 3;
/** How others in a token's room see the check. */
const NAME = "Connection check";

const query = new URLSearchParams(location.search);
const token = new URLSearchParams(location.hash.slice(1)).get("token") ?? undefined;

/** For the console and the browser tests. */
const handle = { outcomes: /** @type {Outcomes | null} */ (null) };
Object.assign(window, { confabCheck: handle });

/**
 * @template Value
 * @param {Promise<Value>} promise
 * @returns {Promise<Value>} Rejects with `server_gone` when it takes too long.
 */
function soon(promise) {
  const late = new Promise((_, reject) => {
    setTimeout(() => reject(new ConfabError("server_gone", "The server does not answer.")), SIGNALING_MS);
  });
  return Promise.race([promise, /** @type {Promise<never>} */ (late)]);
}

/**
 * @param {string} id Of the line.
 * @param {Finding} finding
 */
function show(id, { grade, words }) {
  const line = byId(id);
  line.dataset.grade = grade;
  const place = /** @type {HTMLElement} */ (line.querySelector("p"));
  place.textContent = words;
}

/** @param {boolean} running */
function setRunning(running) {
  const button = /** @type {HTMLButtonElement} */ (byId("again"));
  button.disabled = running;
  button.textContent = running ? "Checking…" : "Check again";
}

async function checkDevices() {
  const devices = await listDevices();
  for (const device of /** @type {Device[]} */ (["camera", "microphone"])) {
    const permission = await navigator.permissions
      ?.query({ name: /** @type {PermissionName} */ (device) })
      .then(({ state }) => state, () => null) ?? null;
    const secure = isSecureContext && Boolean(navigator.mediaDevices);
    show(device, deviceFinding(device, { secure, permission, count: devices[device].length }));
  }
}

/** The token's room, or one that nobody else is in. */
function ownRoom() {
  const chosen = token && query.get("room");
  return chosen || `check-${crypto.getRandomValues(new Uint32Array(2)).join("-")}`;
}

/**
 * Opens the session. Waits for as long as there is hope: on a bad network sockets take their time.
 * @param {Signal} signal
 * @returns {Promise<IceServersInfo | undefined>} The relay, if the server has one.
 */
function opened(signal) {
  return new Promise((resolve, reject) => {
    signal.on("open", ({ relay }) => resolve(relay));
    signal.on("closed", reject);
    signal.start();
  });
}

/** @param {Signal} signal */
async function fastestPing(signal) {
  let fastest = Infinity;
  for (let n = 0; n < PINGS; n += 1) {
    const begin = performance.now();
    await soon(signal.request("ping", {}));
    fastest = Math.min(fastest, performance.now() - begin);
  }
  return fastest;
}

/**
 * All ways side by side: most of those that fail do so by silence. A participant has one connection, so
 * each way is a participant.
 * @param {string} room
 */
async function checkWays(room) {
  const picture = new TestPicture();
  /** @type {Outcomes} */
  const outcomes = {};
  const check = async (/** @type {Way} */ way) => {
    show(way, { grade: "none", words: "Trying…" });
    const outcome = await Promise.race([checkWay(way, room, picture.track), pause(WAY_MS)]);
    if (outcome) outcomes[way] = outcome;
    show(way, outcome ? wayFinding(outcome) : { grade: "bad", words: "It took too long to tell." });
  };
  try {
    await Promise.all(WAYS.map(check));
  } finally {
    picture.stop();
  }
  return outcomes;
}

/**
 * @param {Way} way
 * @param {string} room
 * @param {MediaStreamTrack} track
 */
async function checkWay(way, room, track) {
  const signal = new Signal({ url: signalingUrl(), token });
  try {
    const relay = await opened(signal);
    await signal.request("join", { room, name: NAME });
    return await tryWay(way, {
      iceServers: relay?.ice_servers ?? [],
      track,
      exchange: (offer) => exchange(signal, offer),
    });
  } finally {
    void leave(signal);
  }
}

/** @param {Signal} signal */
async function leave(signal) {
  if (signal.isOpen) await soon(signal.request("leave", {})).catch(() => {});
  signal.close();
}

/**
 * @param {Signal} signal
 * @param {Parameters<Exchange>[0]} offer
 */
async function exchange(signal, offer) {
  const answer = await signal.request("offer", { ...offer, new_connection: true });
  // Whoever else is in a token's room need not look at it.
  for (const { id } of answer.tracks) signal.request("mute", { track: id, muted: true }).catch(() => {});
  return answer;
}

async function check() {
  setRunning(true);
  handle.outcomes = null;
  byId("verdict").textContent = "";
  for (const id of ["camera", "microphone", "signaling", ...WAYS]) show(id, { grade: "none", words: "…" });
  const signal = new Signal({ url: signalingUrl(), token });
  try {
    await checkDevices();
    await soon(opened(signal));
    show("signaling", signalingFinding({ roundTrip: await fastestPing(signal) }));
    const outcomes = await checkWays(ownRoom());
    handle.outcomes = outcomes;
    const said = verdict(outcomes, location.hostname);
    const isFirefox = said.grade === "bad" && firefoxOnLoopback();
    sayVerdict(isFirefox ? { ...said, words: callProblem({ code: "media_failed", message: "" }) } : said);
  } catch (error) {
    const finding = signalingFinding({ error: /** @type {any} */ (error) });
    show("signaling", finding);
    for (const way of WAYS) if (byId(way).dataset.grade === "none") show(way, { grade: "none", words: "Not checked." });
    sayVerdict({ grade: "bad", words: `No call can begin: ${finding.words}` });
  } finally {
    signal.close();
    setRunning(false);
  }
}

/** @param {Finding} finding */
function sayVerdict({ grade, words }) {
  byId("verdict").textContent = words;
  byId("verdict").dataset.grade = grade;
}

byId("checks").append(
  ...[
    ["camera", "Camera"],
    ["microphone", "Microphone"],
    ["signaling", "Signaling"],
    ...WAYS.map((way) => [way, WAY_NAMES[way]]),
  ].map(([id = "", title = ""]) => {
    const line = create("li", "", create("h2", "", title), create("p", ""));
    line.id = id;
    return line;
  }),
);
byId("again").addEventListener("click", () => void check());
/** @type {HTMLAnchorElement} */ (byId("back")).href = `./${location.search}${location.hash}`;
void check();
