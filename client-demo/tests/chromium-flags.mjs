/** Which Chromium the tests start, and how: headless, with devices that are files, and silent towards the network. */

export const EXECUTABLE = process.env.CONFAB_CHROMIUM ?? "/usr/bin/chromium";

export const FLAGS = [
  "--headless=new",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--use-fake-ui-for-media-stream",
];
