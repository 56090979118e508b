/** Builds the demo for tests: with the bundle in public/bundle, else with a small bundle of the vectors. */

import { existsSync } from "node:fs";
import { cp } from "node:fs/promises";
import type { Page } from "playwright-core";
import { build } from "vite";
import { type Server, serve } from "../../scripts/serve.mjs";
import { listFiles } from "../../scripts/service_worker.mjs";

const at = (path: string): string => new URL(path, import.meta.url).pathname;
export const VECTORS = at("../../../../tests/vectors");
export const APP = at("../../dist-test/app");

export async function serveDemo(): Promise<Server> {
  await build({ root: at("../.."), logLevel: "error", build: { outDir: APP, emptyOutDir: true } });
  if (!existsSync(`${APP}/bundle`)) {
    await cp(`${VECTORS}/bundles/plain`, `${APP}/bundle`, { recursive: true });
    listFiles(APP);
  }
  return serve({ "/": APP });
}

export async function open(page: Page, url: string): Promise<void> {
  await page.goto(url);
  await page.waitForSelector("#app[data-state=ready]", { timeout: 60_000 });
}

export const offlineReady = (page: Page): Promise<unknown> =>
  page.waitForSelector(".status[data-kind=good]", { timeout: 60_000 });

export const tab = (page: Page, name: string): Promise<void> =>
  page.locator(".tabs").getByRole("button", { name }).tap();

/** Ids of the recommended items, best first. */
export const recommended = (page: Page): Promise<(string | null)[]> =>
  page.locator(".cards button").evaluateAll((cards) => cards.map((card) => card.getAttribute("data-id")));

/** Titles of the history, the newest first. */
export const history = (page: Page): Promise<(string | null)[]> =>
  page.locator(".chip").evaluateAll((chips) => chips.map((chip) => chip.getAttribute("title")));
