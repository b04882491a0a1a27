/**
 * Links: which room the address names, and links that let others in.
 *
 * A room's page is at `/NAME`, or at `/?room=NAME` for names that are something else on the server.
 * A token goes behind the hash, which browsers send to nobody.
 */

const ROOM = /^[A-Za-z0-9_-]{1,64}$/;

/**
 * The room that an address names, if it names one.
 * @param {{search: string, pathname: string}} [address]
 * @returns {string | null}
 */
export function roomIn(address = location) {
  const query = new URLSearchParams(address.search).get("room");
  if (query !== null) return query;
  const last = address.pathname.split("/").pop() ?? "";
  return ROOM.test(last) ? last : null;
}

/**
 * The address of a room's page, with all else that the present one says.
 * @param {string} room
 */
export function addressOf(room) {
  if (roomIn() === room) return new URL(location.href);
  const url = new URL(".", location.href);
  url.search = location.search;
  url.hash = location.hash;
  url.searchParams.set("room", room);
  return url;
}

/**
 * A link that lets others into a room, from the server, which makes a token for it where one is needed.
 * @param {string} room
 * @param {string | undefined} token The own one.
 * @throws {Error} With a sentence, when the token does not allow that or the server does not answer.
 */
export async function inviteLink(room, token) {
  const base = new URL(".", location.href);
  /** @type {HeadersInit} */
  const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
  let response;
  try {
    response = await fetch(new URL(`v1/rooms/${room}/invites`, base), { method: "POST", headers });
  } catch {
    throw new Error("The server does not answer, so there is no link. Try again in a moment.");
  }
  const { link, title } = await response.json().catch(() => ({}));
  if (response.status === 403) throw new Error("Your own link does not let you invite others. Ask whoever sent it to you.");
  if (!response.ok || !link) throw new Error(title ?? "The server has made no link.");
  return new URL(link, base).href;
}
