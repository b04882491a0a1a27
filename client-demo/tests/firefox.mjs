/**
 * Firefox ESR over WebDriver BiDi, as far as a call needs it: open a page, evaluate, screenshot.
 */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WebSocket } from "ws";

const EXECUTABLE = process.env.CONFAB_FIREFOX ?? "firefox-esr";
const START_TIMEOUT_MS = 60_000;
const PREFERENCES = {
  "media.navigator.streams.fake": true,
  "media.navigator.permission.disabled": true,
  "media.autoplay.default": 0,
  // OpenH264 would be fetched from the network.
  "media.gmp-manager.updateEnabled": false,
  "app.update.enabled": false,
  "browser.shell.checkDefaultBrowser": false,
  "browser.aboutwelcome.enabled": false,
  "datareporting.policy.dataSubmissionEnabled": false,
  "toolkit.telemetry.reportingpolicy.firstRun": false,
  "network.captive-portal-service.enabled": false,
  "network.connectivity-service.enabled": false,
  "services.settings.server": "data:,",
};

export class Firefox {
  #child;
  #socket;
  #profile;
  #nextId = 1;
  #waiting = new Map();

  static async launch() {
    const firefox = new Firefox();
    const profile = await mkdtemp(join(tmpdir(), "confab-firefox-"));
    firefox.#profile = profile;
    const lines = Object.entries(PREFERENCES).map(([name, value]) => `user_pref(${JSON.stringify(name)}, ${JSON.stringify(value)});`);
    await writeFile(join(profile, "user.js"), lines.join("\n"));
    firefox.#child = spawn(EXECUTABLE, ["--headless", "--no-remote", "--profile", profile, "--remote-debugging-port", "0", "about:blank"], {
      stdio: ["ignore", "ignore", "pipe"],
      env: { ...process.env, HOME: profile, MOZ_HEADLESS_WIDTH: "960", MOZ_HEADLESS_HEIGHT: "640" },
    });
    await firefox.#connect(await firefox.#address());
    return firefox;
  }

  #address() {
    return new Promise((resolve, reject) => {
      let log = "";
      const timer = setTimeout(() => reject(new Error(`Firefox did not start:\n${log}`)), START_TIMEOUT_MS);
      this.#child.once("error", reject);
      this.#child.once("exit", (code) => reject(new Error(`Firefox ended with ${code}:\n${log}`)));
      this.#child.stderr.on("data", (data) => {
        log += data;
        const found = /WebDriver BiDi listening on (ws:\/\/\S+)/.exec(log);
        if (!found) return;
        clearTimeout(timer);
        resolve(found[1]);
      });
    });
  }

  async #connect(address) {
    this.#socket = new WebSocket(`${address}/session`);
    this.#socket.on("message", (data) => {
      const { id, type, result, error, message } = JSON.parse(data);
      const waiting = this.#waiting.get(id);
      if (!waiting) return;
      this.#waiting.delete(id);
      if (type === "success") waiting.resolve(result);
      else waiting.reject(new Error(`${error}: ${message}`));
    });
    await once(this.#socket, "open");
    await this.#send("session.new", { capabilities: {} });
  }

  #send(method, params) {
    const id = this.#nextId++;
    this.#socket.send(JSON.stringify({ id, method, params }));
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }

  /** @param {string} url */
  async open(url) {
    const { contexts } = await this.#send("browsingContext.getTree", {});
    const { context } = contexts[0];
    await this.#send("browsingContext.navigate", { context, url, wait: "complete" });
    return {
      /** The value of an expression, which may be a promise; it must be JSON. */
      evaluate: async (expression) => {
        const outcome = await this.#send("script.evaluate", {
          expression: `Promise.resolve(${expression}).then(JSON.stringify)`,
          target: { context },
          awaitPromise: true,
        });
        if (outcome.type === "exception") throw new Error(outcome.exceptionDetails.text);
        return outcome.result.type === "string" ? JSON.parse(outcome.result.value) : undefined;
      },
      /** @param {string} path */
      screenshot: async (path) => {
        const { data } = await this.#send("browsingContext.captureScreenshot", { context });
        await writeFile(path, Buffer.from(data, "base64"));
      },
    };
  }

  async close() {
    this.#socket?.terminate();
    if (this.#child && this.#child.exitCode === null) {
      const exited = once(this.#child, "exit");
      this.#child.kill("SIGKILL");
      await exited;
    }
    await rm(this.#profile, { recursive: true, force: true, maxRetries: 5 });
  }
}
