/**
 * A typed EventTarget, and the one error type of the SDK.
 */

/**
 * `Events` maps an event's name to its detail. `on` hands the detail straight to the listener;
 * `addEventListener` works too and gets a `CustomEvent`.
 * @template {object} Events
 */
export class Emitter extends EventTarget {
  /**
   * @template {keyof Events & string} Type
   * @param {Type} type
   * @param {(detail: Events[Type]) => void} listener
   * @returns {() => void} Removes the listener.
   */
  on(type, listener) {
    /** @param {Event} event */
    const handler = (event) => listener(/** @type {CustomEvent<Events[Type]>} */ (event).detail);
    this.addEventListener(type, handler);
    return () => this.removeEventListener(type, handler);
  }

  /**
   * @template {keyof Events & string} Type
   * @param {Type} type
   * @param {Events[Type]} detail
   * @protected
   */
  emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/**
 * What went wrong: a stable `code`, a sentence for the user in `message`, and, of an access token that
 * was refused, a stable `reason` such as `expired`.
 */
export class ConfabError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {string} [reason]
   */
  constructor(code, message, reason) {
    super(message);
    this.name = "ConfabError";
    this.code = code;
    this.reason = reason;
  }
}

/**
 * @param {unknown} error
 * @returns {ConfabError}
 */
export function asConfabError(error) {
  if (error instanceof ConfabError) return error;
  return new ConfabError("internal", error instanceof Error ? error.message : String(error));
}
