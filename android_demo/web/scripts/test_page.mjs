/** Builds and opens the page of tests/page, which runs the runtime in a browser for tests and measurements. */

import { build } from "vite";

const at = (path) => new URL(path, import.meta.url).pathname;

/** @returns {Promise<string>} the folder of the built page */
export async function buildTestPage() {
  const outDir = at("../dist-test/page");
  await build({
    root: at("../tests/page"),
    configFile: false,
    logLevel: "error",
    base: "./",
    build: { outDir, emptyOutDir: true, target: "es2023" },
  });
  return outDir;
}

/** Open the test page in a new tab. */
export async function openTestPage(browser, url) {
  const tab = await browser.newPage();
  await tab.goto(url);
  await tab.waitForSelector("body[data-ready=yes]", { state: "attached" });
  return tab;
}
