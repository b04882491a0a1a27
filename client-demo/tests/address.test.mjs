/** Where the SDK looks for the server, however its address is written. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { signalingUrl } from "../sdk/address.js";

globalThis.location = new URL("https://page.example.org/app/call.html");

test("an address may have any of four schemes, and a path or none", () => {
  for (const [address, expected] of [
    ["https://call.example.org", "wss://call.example.org/v1/ws"],
    ["https://call.example.org/", "wss://call.example.org/v1/ws"],
    ["http://127.0.0.1:8080", "ws://127.0.0.1:8080/v1/ws"],
    ["http://[::1]:8080/", "ws://[::1]:8080/v1/ws"],
    ["wss://call.example.org", "wss://call.example.org/v1/ws"],
    ["ws://127.0.0.1:8080/", "ws://127.0.0.1:8080/v1/ws"],
    ["wss://call.example.org/v1/ws", "wss://call.example.org/v1/ws"],
    ["https://call.example.org/v1/ws", "wss://call.example.org/v1/ws"],
    ["https://example.org/calls/", "wss://example.org/calls/v1/ws"],
    ["https://example.org/calls/v1/ws?shard=2", "wss://example.org/calls/v1/ws?shard=2"],
    ["HTTPS://CALL.example.org#token=x", "wss://call.example.org/v1/ws"],
    ["/v1/ws", "wss://page.example.org/v1/ws"],
    ["/calls/", "wss://page.example.org/calls/v1/ws"],
    [undefined, "wss://page.example.org/v1/ws"],
  ]) {
    assert.equal(signalingUrl(address), expected, address);
  }
});

test("what is no address is refused in words", () => {
  for (const address of ["", "call.example.org", "localhost:8080", "ftp://example.org", "//example.org", "https://"]) {
    const isRefused = ({ code, message }) => code === "bad_url" && message.includes("https://");
    assert.throws(() => signalingUrl(address), isRefused, address);
  }
});
