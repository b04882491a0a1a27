/**
 * The call page: lobby, call, and the screen after it.
 *
 * The address is `/ROOM`, and may say `?name=…`, `&autojoin=1` to skip the lobby, `&video=640x360` for
 * another camera size, `&simulcast=0` to send it in one alone and `&relay=1` to send and receive through
 * the TURN relay only. A token goes behind the hash (`#token=…`), where no server log sees it.
 */

import { Call } from "./sdk/confab.js";
import { CallView } from "./call-view.js";
import { byId } from "./dom.js";
import { Grid } from "./grid.js";
import { Lobby } from "./lobby.js";
import { addressOf, roomIn } from "./links.js";
import { mayPublish } from "./token.js";
import { callProblem } from "./words.js";

const query = new URLSearchParams(location.search);
const token = new URLSearchParams(location.hash.slice(1)).get("token") ?? undefined;
/** Where the address says nothing, the SDK decides. */
const simulcast = query.has("simulcast") ? query.get("simulcast") !== "0" : undefined;
const iceTransportPolicy = query.has("relay") ? "relay" : "all";

const TITLE = document.title;
/** For the console and the browser tests. */
const handle = { call: /** @type {Call | null} */ (null) };
Object.assign(window, { confab: handle });

/** @type {CallView | null} */
let view = null;
const grid = new Grid(byId("grid"), (key, pinned) => view?.pin(key, pinned));
const lobby = new Lobby(() => void join(), { watches: !mayPublish(token) });

/** @param {"lobby" | "call" | "left"} name */
function show(name) {
  document.body.dataset.view = name;
}

async function join() {
  lobby.say(null);
  lobby.setBusy(true);
  try {
    const { name, room, camera, microphone } = await lobby.choice();
    const tracks = [microphone, camera].filter((track) => track !== null);
    const call = new Call({ room, name, token, tracks, simulcast, iceTransportPolicy });
    const undo = call.on("error", ({ fatal }) => fatal || lobby.say("The server does not answer. Still trying…"));
    await call.start().finally(undo);
    lobby.handOver();
    // Nobody would see or hear them.
    if (!call.permissions.publish) for (const track of tracks) track.stop();
    handle.call = call;
    rememberRoom(room);
    show("call");
    document.title = `${room} – ${TITLE}`;
    view = new CallView(call, grid, { name, room, token, simulcast });
    // What had it is gone; a screen reader says where one is.
    byId("room-name").focus();
    call.on("error", ({ error, fatal }) => fatal && left("The call has ended", callProblem(error)));
  } catch (error) {
    lobby.say(callProblem(/** @type {any} */ (error), { joining: true }));
  } finally {
    lobby.setBusy(false);
  }
}

/**
 * @param {string} title
 * @param {string} words
 */
function left(title, words) {
  view?.close();
  view = null;
  byId("toasts").replaceChildren();
  byId("left-title").textContent = title;
  byId("left-words").textContent = words;
  show("left");
  document.title = TITLE;
  byId("left-title").focus();
}

/**
 * So that reloading, and the address bar, lead back into the room.
 * @param {string} room
 */
function rememberRoom(room) {
  history.replaceState(null, "", addressOf(room));
}

/** The page that checks the connection, told of the room. */
function checkAddress() {
  const query = new URLSearchParams(location.search);
  const room = roomIn();
  if (room !== null) query.set("room", room);
  return `check.html?${query}${location.hash}`;
}

byId("leave").addEventListener("click", () => {
  const { call } = handle;
  left("You left the call", "");
  void call?.leave();
});
byId("rejoin").addEventListener("click", () => {
  show("lobby");
  void lobby.open();
  void join();
});
byId("to-lobby").addEventListener("click", () => {
  show("lobby");
  byId("lobby-title").focus();
  void lobby.open();
});

for (const id of ["check-link", "call-check-link"]) {
  const link = /** @type {HTMLAnchorElement} */ (byId(id));
  // The address as it is then: joining writes the room into it.
  link.addEventListener("click", () => (link.href = checkAddress()));
}
show("lobby");
void lobby.open();
if (query.has("autojoin")) void join();
