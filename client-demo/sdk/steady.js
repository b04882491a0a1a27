/** Whether a way loses packets, judged by how long answers take. */

/**
 * So much longer than the quickest may an answer take, milliseconds. What was lost is sent again after
 * 200 ms and more by TCP (Linux's TCP_RTO_MIN), and after 250 ms by libwebrtc (STUN_INITIAL_RTO).
 */
const SLACK_MS = 180;

/**
 * Asks so many times, each when the one before is answered. A way is steady if every answer comes, and in
 * the usual time: then next to nothing was lost.
 * @param {number} times
 * @param {() => Promise<unknown>} ask Rejects, or gives nothing true, if there is no answer.
 */
export async function isSteady(times, ask) {
  let [quickest, slowest] = [Infinity, 0];
  for (let n = 0; n < times; n += 1) {
    const asked = performance.now();
    if (!(await ask().catch(() => null))) return false;
    const took = performance.now() - asked;
    quickest = Math.min(quickest, took);
    slowest = Math.max(slowest, took);
    if (slowest - quickest > SLACK_MS) return false;
  }
  return true;
}
