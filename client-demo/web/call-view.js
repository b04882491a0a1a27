/**
 * One call on the screen: tiles follow the call's events, buttons act on the own tracks.
 */

import { DevicePanel } from "./device-panel.js";
import { changeDevice, isRear, LevelMeter, openDevice } from "./devices.js";
import { byId, create, setSwitch, toast } from "./dom.js";
import { Tile } from "./grid.js";
import { inviteLink } from "./links.js";
import { QualityPanel } from "./quality.js";
import { brief, showStatistics } from "./statistics.js";
import { WakeLock } from "./wake-lock.js";
import { callProblem, headCount, linkEndsWords, refusalWords, roleWords, stoppingWords } from "./words.js";

/** @import { Call, Participant, RemoteTrack } from "./sdk/confab.js" */
/** @import { Publication } from "./sdk/media.js" */
/** @import { Source } from "./sdk/types.js" */
/** @import { Chosen } from "./device-panel.js" */
/** @import { Wanted } from "./devices.js" */
/** @import { Grid } from "./grid.js" */
/** @import { Device } from "./words.js" */

/** Between two looks at who is speaking, milliseconds. */
const LEVEL_INTERVAL_MS = 150;
/** Between two readings of the statistics, milliseconds. */
const STATS_INTERVAL_MS = 1_000;
/** What a shared screen is asked for: letters are to be sharp, and scrolling to be followed. */
const SCREEN = { frameRate: { ideal: 15, max: 30 } };
const SELF = "self";
const OWN_SCREEN = "self-screen";

export class CallView {
  #call;
  #grid;
  #simulcast;
  /** Where others are invited to, and what allows it. */
  #invitation;
  #self;
  #wakeLock = new WakeLock();
  #devices;
  /** What was chosen of each, in use or not. @type {Record<Device, Wanted>} */
  #chosen = { camera: {}, microphone: {} };
  /** @type {(() => void)[]} */
  #undo = [];
  #cameras = 0;
  /** @type {LevelMeter | null} */
  #meter = null;
  #statsShown = false;
  #quality;

  /**
   * @param {Call} call A joined one.
   * @param {Grid} grid
   * @param {{name: string, room: string, token?: string, simulcast?: boolean}} options
   */
  constructor(call, grid, { name, room, token, simulcast }) {
    this.#call = call;
    this.#invitation = { room, token };
    this.#grid = grid;
    this.#simulcast = simulcast;
    this.#quality = new QualityPanel(call, (id) => this.#nameOf(id));
    this.#self = new Tile(SELF, name, { self: true });
    // Who only watches has nothing to show.
    const { publish } = call.permissions;
    if (publish) grid.add(this.#self);
    const role = roleWords(call.permissions);
    byId("call-role").hidden = role === null;
    byId("call-role").textContent = role;
    for (const id of ["toggle-mic", "toggle-camera"]) byId(id).hidden = !publish;
    for (const id of ["call-microphone", "call-camera"]) {
      const choice = /** @type {HTMLElement} */ (byId(id).closest("label"));
      choice.hidden = !publish;
    }
    byId("toggle-screen").hidden = !publish || !navigator.mediaDevices?.getDisplayMedia;
    byId("room-name").textContent = room;
    this.#devices = new DevicePanel({
      current: (device) => this.#current(device),
      use: (device, id) => this.#choose(device, id),
      onChange: ({ camera, speaker }) => {
        this.#showFlip(camera.length);
        const isThere = speaker.some(({ deviceId }) => deviceId === grid.speaker);
        if (grid.speaker && !isThere) grid.setSpeaker("").catch(report);
      },
    });
    this.#followCall();
    this.#bindControls();
    for (const publication of call.publications) this.#watchDevice(publication);
    for (const participant of call.participants.values()) {
      this.#addParticipant(participant);
      for (const track of participant.tracks.values()) this.#showTrack(participant, track);
    }
    this.#every(LEVEL_INTERVAL_MS, () => this.#showLevels());
    // A connection that has just been closed cannot be asked; the next one can.
    this.#every(STATS_INTERVAL_MS, () => this.#showStats().catch(() => {}));
    this.#setStats(false);
    this.#showProblem(null);
    this.#refreshSelf();
    this.#refreshCount();
    this.#showState();
    this.#devices.refresh().then(({ camera }) => this.#showFlip(camera.length)).catch(report);
    for (const refusal of call.refused) toast(refusalWords(refusal));
  }

  /** Stops the own devices and takes the tiles away; the call itself is left alone. */
  close() {
    for (const undo of this.#undo) undo();
    for (const { track } of this.#call.publications) track?.stop();
    this.#meter?.close();
    this.#wakeLock.release();
    this.#devices.close();
    this.#grid.clear();
    byId("call-ending").replaceChildren();
  }

  /**
   * A pinned tile's tracks must keep their slots.
   * @param {string} key
   * @param {boolean} pinned
   */
  pin(key, pinned) {
    for (const { id, tracks } of this.#call.participants.values()) {
      for (const track of tracks.values()) {
        if (track.kind !== "video" || tileKey(id, track) !== key) continue;
        (pinned ? this.#call.pin(track.id) : this.#call.unpin(track.id)).catch((error) => toast(callProblem(error)));
      }
    }
  }

  #followCall() {
    const call = this.#call;
    this.#undo.push(
      call.on("participant", ({ participant }) => {
        this.#addParticipant(participant);
        // Who was there before the server forgot us has not come anew.
        if (call.state === "connected") toast(`${participant.name} joined`);
      }),
      call.on("participantleft", ({ participant, reason }) => {
        this.#grid.remove(participant.id);
        if (reason !== "gone") toast(`${participant.name} left`);
        this.#refreshCount();
      }),
      call.on("unreachable", ({ participant }) => this.#showReach(participant)),
      call.on("track", ({ participant, track }) => this.#showTrack(participant, track)),
      call.on("trackended", ({ participant, track }) => this.#showTrack(participant, track)),
      call.on("mute", ({ participant, track }) => this.#showTrack(participant, track)),
      call.on("pause", ({ participant, track }) => this.#showTrack(participant, track)),
      call.on("refused", (refusal) => {
        toast(refusalWords(refusal));
        this.#refreshSelf();
      }),
      call.on("dominantspeaker", () => this.#showDominant()),
      call.on("viewers", () => this.#refreshCount()),
      call.on("stopping", ({ inMs }) => this.#showProblem(stoppingWords(inMs))),
      call.on("tokenexpires", ({ inMs }) => byId("call-ending").replaceChildren(create("p", "banner", linkEndsWords(inMs)))),
      call.on("state", ({ media }) => this.#showState(media)),
      call.on("error", ({ error }) => this.#showProblem(callProblem(error), error.code === "media_failed")),
    );
  }

  #bindControls() {
    this.#click("toggle-mic", () => this.#toggle("microphone"));
    this.#click("toggle-camera", () => this.#toggle("camera"));
    this.#click("flip-camera", () => this.#flip());
    this.#click("toggle-screen", () => this.#toggleScreen());
    this.#click("copy-link", () => this.#copyLink());
    this.#click("toggle-stats", () => this.#setStats(!this.#statsShown));
    this.#click("stats-close", () => {
      this.#setStats(false);
      byId("toggle-stats").focus();
    });
  }

  /** @param {Participant} participant */
  #addParticipant(participant) {
    const { id, name } = participant;
    if (!this.#grid.tile(id)) this.#grid.add(new Tile(id, name));
    this.#grid.tile(id)?.setMicrophone(false);
    this.#showReach(participant);
    this.#showDominant();
    this.#refreshCount();
  }

  /** @param {Participant} participant */
  #showReach({ id, unreachable, tracks }) {
    const keys = new Set([id, ...[...tracks.values()].map((track) => tileKey(id, track))]);
    for (const key of keys) this.#grid.tile(key)?.setUnreachable(unreachable);
  }

  /**
   * Brings the tile in line with the track, whatever happened to it.
   * @param {Participant} participant
   * @param {RemoteTrack} track
   */
  #showTrack(participant, track) {
    const key = tileKey(participant.id, track);
    const media = track.mediaStreamTrack;
    const ofPerson = key === participant.id;
    if (!ofPerson && !media && track.source !== "screen_audio") return this.#grid.remove(key);
    if (!ofPerson && media && !this.#grid.tile(key)) this.#grid.add(extraTile(key, participant, track));
    const tile = this.#grid.tile(key);
    if (!tile) return;
    tile.setUnreachable(participant.unreachable);
    tile.setPaused(track.kind, track.muted || !track.paused ? null : track.paused.message);
    if (track.kind === "video") {
      this.#call.view(track.id, tile.video);
      return tile.setVideo(track.muted ? null : media);
    }
    tile.setAudio(media);
    if (ofPerson) tile.setMicrophone(media !== null && !track.muted);
  }

  /** @param {Source} source */
  #publication(source) {
    return this.#call.publications.find((publication) => publication.source === source);
  }

  /** @param {"camera" | "microphone"} device */
  async #toggle(device) {
    const publication = this.#publication(device);
    if (!publication) {
      const track = await this.#open(device);
      if (track) {
        this.#watchDevice(await this.#call.publish(track, { source: device, simulcast: this.#simulcast }));
      }
    } else if (publication.muted) await this.#turnOn(publication, device);
    else await this.#turnOff(publication);
    this.#refreshSelf();
  }

  /**
   * @param {Publication} publication
   * @param {"camera" | "microphone"} device
   */
  async #turnOn(publication, device) {
    if (!publication.track) {
      const track = await this.#open(device);
      if (!track) return;
      await this.#call.replaceTrack(publication, track);
      this.#watchDevice(publication);
    }
    await this.#call.setMuted(publication, false);
  }

  /**
   * The camera is closed, so that its light goes out; the microphone only falls silent, so that it
   * is back at once.
   * @param {Publication} publication
   */
  async #turnOff(publication) {
    if (publication.source === "camera") {
      publication.track?.stop();
      await this.#call.replaceTrack(publication, null);
    }
    await this.#call.setMuted(publication, true);
  }

  /** @param {Device} device */
  async #open(device) {
    const { track, problem } = await openDevice(device, this.#chosen[device]);
    this.#showProblem(problem);
    return track;
  }

  /** @param {Chosen} device */
  #current(device) {
    if (device === "speaker") return this.#grid.speaker;
    return this.#publication(device)?.track?.getSettings().deviceId ?? this.#chosen[device].id;
  }

  /**
   * @param {Chosen} device
   * @param {string} id
   */
  async #choose(device, id) {
    if (device !== "speaker") return this.#change(device, { id }).catch(callProblem);
    try {
      await this.#grid.setSpeaker(id);
      return null;
    } catch {
      return "The sound cannot be heard there.";
    }
  }

  /**
   * Goes on with another camera or microphone.
   * @param {Device} device
   * @param {Wanted} wanted
   * @returns {Promise<string | null>} What went wrong, if anything.
   */
  async #change(device, wanted) {
    this.#chosen[device] = wanted;
    const publication = this.#publication(device);
    const present = publication?.track;
    // It is opened when it is turned on.
    if (!publication || !present) return null;
    const { track, problem } = await changeDevice(device, wanted, present);
    await this.#call.replaceTrack(publication, track);
    if (track) this.#watchDevice(publication);
    else await this.#call.setMuted(publication, true);
    this.#refreshSelf();
    return problem;
  }

  /** The camera on the other side of the phone. */
  async #flip() {
    const camera = this.#publication("camera")?.track ?? null;
    const problem = await this.#change("camera", { facing: isRear(camera) ? "user" : "environment" });
    if (problem) toast(problem);
  }

  /** @param {number} [cameras] How many there are. */
  #showFlip(cameras) {
    const hasSides = matchMedia("(pointer: coarse)").matches && (navigator.mediaDevices?.getSupportedConstraints().facingMode ?? false);
    const isOn = !!this.#publication("camera")?.track;
    if (cameras !== undefined) this.#cameras = cameras;
    byId("flip-camera").hidden = !(hasSides && isOn && this.#cameras > 1);
  }

  /**
   * Unplugged devices and screens that the browser's own button stopped.
   * @param {Publication} publication
   */
  #watchDevice(publication) {
    const { track, source } = publication;
    track?.addEventListener("ended", () => {
      if (publication.track !== track) return;
      if (source === "screen") return void this.#stopScreen().catch(report);
      if (source === "camera" || source === "microphone") this.#replaceLost(publication, source).catch(report);
    });
  }

  /**
   * Goes on with another device in place of one that was unplugged, if there is one.
   * @param {Publication} publication
   * @param {Device} device
   */
  async #replaceLost(publication, device) {
    const { track } = await openDevice(device);
    await this.#call.replaceTrack(publication, track);
    if (track) {
      this.#watchDevice(publication);
      toast(`Your ${device} was disconnected; ${track.label || "another one"} is used now`);
    } else {
      await this.#call.setMuted(publication, true);
      toast(`Your ${device} was disconnected`);
    }
    this.#refreshSelf();
  }

  async #toggleScreen() {
    if (this.#publication("screen")) return this.#stopScreen();
    let stream;
    try {
      stream = await navigator.mediaDevices.getDisplayMedia({ video: SCREEN, audio: true });
    } catch (error) {
      // Closing the browser's picker is a choice, not a problem.
      if (!(error instanceof DOMException && error.name === "NotAllowedError")) toast("The screen could not be shared");
      return;
    }
    for (const track of stream.getTracks()) {
      const source = track.kind === "video" ? "screen" : "screen_audio";
      this.#watchDevice(await this.#call.publish(track, { source }));
    }
    this.#refreshSelf();
  }

  async #stopScreen() {
    for (const source of /** @type {const} */ (["screen", "screen_audio"])) {
      const publication = this.#publication(source);
      if (!publication) continue;
      publication.track?.stop();
      await this.#call.unpublish(publication);
    }
    this.#refreshSelf();
  }

  async #copyLink() {
    let link;
    try {
      link = await inviteLink(this.#invitation.room, this.#invitation.token);
    } catch (error) {
      toast(/** @type {Error} */ (error).message);
      return;
    }
    try {
      await navigator.clipboard.writeText(link);
      toast("Invite link copied");
    } catch {
      // Without permission or a secure context the user copies it by hand.
      prompt("Copy this link to invite others:", link);
    }
  }

  #refreshSelf() {
    const microphone = this.#publication("microphone");
    const camera = this.#publication("camera");
    const screen = this.#publication("screen");
    const speaks = !!microphone && !microphone.muted;
    const seen = !!camera && !camera.muted;
    setSwitch(byId("toggle-mic"), speaks, speaks ? "mic" : "mic-off", speaks ? "Mute" : "Unmute");
    setSwitch(byId("toggle-camera"), seen, seen ? "camera" : "camera-off", seen ? "Camera off" : "Camera on");
    setSwitch(byId("toggle-screen"), !!screen, "screen", screen ? "Stop sharing" : "Share screen");
    this.#showFlip();
    this.#self.setVideo(seen ? camera.track : null);
    this.#self.setMicrophone(speaks);
    this.#meter?.close();
    this.#meter = speaks && microphone.track ? new LevelMeter(microphone.track) : null;
    if (!screen) this.#grid.remove(OWN_SCREEN);
    else if (!this.#grid.tile(OWN_SCREEN)) {
      const tile = new Tile(OWN_SCREEN, "Your screen", { self: true, screen: true });
      this.#grid.add(tile);
      tile.setVideo(screen.track);
    }
  }

  #refreshCount() {
    const count = this.#call.participants.size + 1;
    byId("head-count").textContent = headCount(count, this.#call.viewers);
    byId("alone").hidden = count > 1;
  }

  /** @param {boolean} [media] Whether pictures come. */
  #showState(media = true) {
    const { state } = this.#call;
    const words = { connecting: "Connecting…", connected: "", reconnecting: "Reconnecting…", closed: "" };
    byId("call-state").textContent = words[state];
    document.body.dataset.state = state;
    document.body.dataset.pictures = media || state === "connecting" ? "live" : "old";
    if (state === "connected") this.#showProblem(null);
  }

  #showLevels() {
    this.#self.setLevel(this.#meter?.level() ?? 0);
    for (const { id, tracks } of this.#call.participants.values()) {
      const microphone = [...tracks.values()].find(({ source }) => source === "microphone");
      this.#grid.tile(id)?.setLevel(microphone && !microphone.muted ? this.#call.audioLevel(microphone.id) : 0);
    }
  }

  #showDominant() {
    const { dominantSpeaker, id: self, participants } = this.#call;
    this.#self.setDominant(dominantSpeaker === self);
    for (const id of participants.keys()) this.#grid.tile(id)?.setDominant(dominantSpeaker === id);
  }

  async #showStats() {
    if (!this.#statsShown) return;
    void this.#quality.refresh();
    const stats = await this.#call.stats();
    showStatistics(stats, (id) => this.#nameOf(id));
    for (const { id, tracks } of this.#call.participants.values()) {
      for (const track of tracks.values()) {
        const figures = stats.received.get(track.id);
        if (track.kind === "video" && figures) this.#grid.tile(tileKey(id, track))?.setNote(brief(figures));
      }
    }
  }

  /** @param {boolean} shown */
  #setStats(shown) {
    this.#statsShown = shown;
    byId("stats").hidden = !shown;
    byId("toggle-stats").setAttribute("aria-expanded", String(shown));
    if (shown) return void this.#showStats().catch(() => {});
    for (const { id, tracks } of this.#call.participants.values()) {
      for (const track of tracks.values()) this.#grid.tile(tileKey(id, track))?.setNote("");
    }
  }

  /** @param {string} trackId */
  #nameOf(trackId) {
    const own = this.#call.publications.find(({ id }) => id === trackId);
    if (own) return own.source.replace("_", " ");
    for (const { name, tracks } of this.#call.participants.values()) {
      const track = tracks.get(trackId);
      if (track) return `${name}: ${track.source.replace("_", " ")}`;
    }
    return trackId;
  }

  /**
   * @param {string | null} words
   * @param {boolean} [checkable] Whether checking the connection may tell more.
   */
  #showProblem(words, checkable = false) {
    byId("call-problem").hidden = words === null;
    byId("call-problem-words").textContent = words;
    byId("call-check-link").hidden = !checkable;
  }

  /**
   * @param {string} id
   * @param {() => Promise<void> | void} act
   */
  #click(id, act) {
    const button = byId(id);
    let busy = false;
    const handler = async () => {
      if (busy) return;
      busy = true;
      try {
        await act();
      } catch (error) {
        report(error);
      } finally {
        busy = false;
      }
    };
    button.addEventListener("click", handler);
    this.#undo.push(() => button.removeEventListener("click", handler));
  }

  /**
   * @param {number} ms
   * @param {() => void} act
   */
  #every(ms, act) {
    const timer = setInterval(act, ms);
    this.#undo.push(() => clearInterval(timer));
  }
}

/** @param {any} error */
function report(error) {
  toast(callProblem(error));
}

/**
 * Which tile shows this track: the participant's own, that of the shared screen, or one for itself.
 * @param {string} participant
 * @param {RemoteTrack} track
 */
function tileKey(participant, { id, source }) {
  if (source === "camera" || source === "microphone") return participant;
  return source === "other" ? `${participant}-${id}` : `${participant}-screen`;
}

/**
 * @param {string} key
 * @param {Participant} participant
 * @param {RemoteTrack} track
 */
function extraTile(key, { name }, track) {
  if (track.source === "other") return new Tile(key, `${name}: ${track.name ?? "other"}`);
  return new Tile(key, `${name}'s screen`, { screen: true });
}
