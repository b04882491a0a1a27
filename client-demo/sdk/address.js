/**
 * Where the signaling server is, in the forms that people write addresses in.
 */

import { ConfabError } from "./events.js";

/** Below the server's root. */
const PATH = "v1/ws";
/** @type {Record<string, string>} */
const SOCKET_SCHEMES = { "http:": "ws:", "https:": "wss:", "ws:": "ws:", "wss:": "wss:" };

/**
 * @param {string} [address] `https://call.example.org`, or with `http`, `ws` or `wss`: of the server,
 *   of a directory that ends in `/` and below which a proxy has it, or of its WebSocket. Or a path at
 *   the page's server. By default the server that this file is from, or else the page's.
 * @returns {string} The address of its WebSocket.
 */
export function signalingUrl(address = ownServer()) {
  const isPath = address.startsWith("/") && !address.startsWith("//");
  const url = parse(isPath ? new URL(address, location.href).href : address);
  const scheme = SOCKET_SCHEMES[url?.protocol ?? ""];
  if (!url || !scheme) {
    throw new ConfabError("bad_url", `${JSON.stringify(address)} is no address of a server: it begins with https://, http://, wss:// or ws://.`);
  }
  url.protocol = scheme;
  url.hash = "";
  if (url.pathname.endsWith("/")) url.pathname += PATH;
  return url.href;
}

/**
 * The server that has served this file, with everything below its `/sdk/`; a copy of the file that is
 * elsewhere belongs to the page.
 */
function ownServer() {
  const [root] = /^https?:.*?(?=\/sdk\/address\.js$)/.exec(import.meta.url) ?? [];
  return root === undefined ? new URL("/", location.href).href : `${root}/`;
}

/** @param {string} address */
function parse(address) {
  try {
    return new URL(address);
  } catch {
    return null;
  }
}
