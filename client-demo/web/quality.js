/**
 * The part of the statistics panel that answers "Why is my video low?": what the connection carries,
 * and for each picture what comes, why no more, and what was changed of late.
 */

import { byId, create } from "./dom.js";
import { bitrate, duration, limitWords, reasonWords } from "./words.js";

/** @import { Call } from "./sdk/confab.js" */
/** @import { Decision, LayerInfo, Quality, SlotQuality } from "./sdk/types.js" */

/** Of each picture so many changes are shown, the latest. */
const DECISIONS_SHOWN = 3;

export class QualityPanel {
  #call;
  #nameOf;
  /** One question at a time: on a bad link answers come late. */
  #isAsking = false;
  #isRefused = false;

  /**
   * @param {Call} call
   * @param {(trackId: string) => string} nameOf
   */
  constructor(call, nameOf) {
    this.#call = call;
    this.#nameOf = nameOf;
    byId("quality").hidden = true;
  }

  async refresh() {
    if (this.#isAsking || this.#isRefused) return;
    this.#isAsking = true;
    try {
      this.#show(await this.#call.quality());
    } catch (error) {
      // An older server cannot say; whatever else it is, the page tells it elsewhere.
      this.#isRefused = /** @type {{code?: string}} */ (error).code === "unknown_type";
    } finally {
      this.#isAsking = false;
    }
  }

  /** @param {Quality} quality */
  #show(quality) {
    byId("quality").hidden = false;
    byId("quality-summary").textContent = summary(quality);
    byId("quality-pictures").replaceChildren(
      ...quality.slots.map((slot) => {
        const decisions = quality.decisions.filter(({ mid }) => mid === slot.mid);
        return picture(this.#nameOf(slot.track), slot, decisions.reverse());
      }),
    );
  }
}

/**
 * @param {Quality} quality
 * @returns {string} Sentences.
 */
function summary({ estimate, wanted, limit, link_loss }) {
  const loss = Math.round(100 * link_loss);
  return [
    `Your connection carries about ${bitrate(estimate)}.`,
    estimate >= wanted
      ? `That is enough for all you see and hear, ${bitrate(wanted)}.`
      : `All you see and hear would take ${bitrate(wanted)}. ${limitWords(limit)}`,
    ...(loss > 0 ? [`The link loses ${loss} % of all packets, however little is sent.`] : []),
  ].join(" ");
}

/**
 * @param {string} name
 * @param {SlotQuality} slot
 * @param {Decision[]} decisions The latest first.
 */
function picture(name, slot, decisions) {
  const { layer, explanation, switches } = slot;
  const changes = decisions.slice(0, DECISIONS_SHOWN).map(({ ago, from, to, reason, estimate }) =>
    create("li", "", `${duration(ago)} ago: ${layerWords(from)} → ${layerWords(to)}, ${reasonWords(reason)} (at ${bitrate(estimate)})`));
  const facts = [shownWords(slot), switches === 1 ? "1 switch" : `${switches} switches`].filter(Boolean);
  return create("li", layer ? "" : "paused",
    create("h4", "", name),
    create("span", "layer", layer ? `${layerWords(layer)}, ${Math.round(layer.bitrate / 1_000)} kbit/s` : layerWords(null)),
    create("p", "", explanation),
    create("p", "quiet", facts.join(" · ")),
    create("ul", "quiet", ...changes),
  );
}

/** @param {SlotQuality} slot */
function shownWords({ visible, width, height }) {
  if (!visible) return "not on your screen";
  return width && height ? `${width}×${height} on your screen` : "";
}

/** @param {LayerInfo | null} layer */
function layerWords(layer) {
  if (!layer) return "paused";
  const { width, height, frame_rate: rate } = layer;
  return `${width && height ? `${width}×${height} @ ` : ""}${rate} fps`;
}
