/**
 * What an access token seems to allow, for the page to show what makes sense. The server decides.
 */

/**
 * @param {string | undefined} token
 * @returns {boolean} Whether it may be used to publish; true if that cannot be read.
 */
export function mayPublish(token) {
  try {
    const [, claims = ""] = (token ?? "").split(".");
    const bytes = Uint8Array.from(atob(claims.replace(/-/g, "+").replace(/_/g, "/")), (char) => char.charCodeAt(0));
    const { grants } = JSON.parse(new TextDecoder().decode(bytes));
    return grants === undefined || grants.publish === true;
  } catch {
    return true;
  }
}
