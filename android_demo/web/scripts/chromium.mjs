/** Starts a headless Chromium: the one named in CHROMIUM, else one in a usual place. */

import { existsSync } from "node:fs";
import { chromium } from "playwright-core";

const QUIET = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

const candidates = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

export const executablePath = candidates.find((path) => path && existsSync(path));

export function launch() {
  if (!executablePath) throw new Error("Chromium was not found; install it, or set CHROMIUM to its path");
  return chromium.launch({ executablePath, args: QUIET });
}

/** The screen and the browser of a mid-range Android phone. */
export const PHONE = {
  viewport: { width: 412, height: 915 },
  deviceScaleFactor: 2.6,
  isMobile: true,
  hasTouch: true,
  userAgent:
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Mobile Safari/537.36",
};
