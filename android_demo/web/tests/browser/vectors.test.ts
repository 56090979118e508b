/** The shared vectors hold in Chromium. */

import { expect, test } from "vitest";
import { executablePath, launch } from "../../scripts/chromium.mjs";
import { serve } from "../../scripts/serve.mjs";
import { buildTestPage, openTestPage } from "../../scripts/test_page.mjs";
import type { TestPage } from "../page/page";
import { VECTORS } from "./demo";

test.skipIf(!executablePath)("every vector holds", { timeout: 240_000 }, async () => {
  const server = await serve({ "/": await buildTestPage(), "/vectors/": VECTORS });
  const browser = await launch();
  const tab = await openTestPage(browser, server.url);
  const outcomes = await tab.evaluate(() => (window as unknown as { page: TestPage }).page.vectors());
  await browser.close();
  await server.close();
  expect(outcomes.filter((outcome) => outcome.failure)).toEqual([]);
  expect(outcomes.length).toBeGreaterThan(200);
});
