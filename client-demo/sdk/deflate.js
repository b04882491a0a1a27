/**
 * Long messages, compressed with DEFLATE (RFC 1951): an offer is 20 kB of text and a tenth of it so,
 * which is two packets to be lost on a bad link instead of fifteen.
 */

/** Whether this browser can; all can since the spring of 2023. */
export const canDeflate = (() => {
  try {
    return Boolean(new CompressionStream("deflate-raw"));
  } catch {
    return false;
  }
})();

/**
 * @param {string} text
 * @returns {Promise<ArrayBuffer>}
 */
export function deflate(text) {
  return new Response(new Blob([text]).stream().pipeThrough(new CompressionStream("deflate-raw"))).arrayBuffer();
}

/**
 * @param {ArrayBuffer} data
 * @returns {Promise<string>}
 */
export function inflate(data) {
  return new Response(new Blob([data]).stream().pipeThrough(new DecompressionStream("deflate-raw"))).text();
}
