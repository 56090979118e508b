/**
 * Compares recommendations in Chromium with those of Python: `npm run parity -- FILE`. FILE holds
 * `{"bundle": path, "histories": [[ids]], "expected": [[ids]]}`. Prints JSON; exits with 1 if a list differs.
 */

import { readFile } from "node:fs/promises";
import { launch } from "./chromium.mjs";
import { serve } from "./serve.mjs";
import { buildTestPage, openTestPage } from "./test_page.mjs";

const [file] = process.argv.slice(2);
if (!file) {
  console.error("give a file of histories: npm run parity -- FILE");
  process.exit(2);
}
const { bundle, histories, expected } = JSON.parse(await readFile(file, "utf8"));
const server = await serve({ "/": await buildTestPage(), "/bundle/": bundle });
const browser = await launch();
const tab = await openTestPage(browser, server.url);
const k = Math.max(...expected.map((ids) => ids.length));
const report = { histories: histories.length, k };
for (const split of [false, true]) {
  await tab.evaluate((apart) => window.page.open(apart), split);
  const { ids } = await tab.evaluate(([lists, count]) => window.page.recommend(lists, count), [histories, k]);
  const same = (a, b) => a.length === b.length && a.every((id, i) => id === b[i]);
  const overlap = (a, b) => b.filter((id) => a.includes(id)).length / Math.max(1, b.length);
  report[split ? "encoder and search apart" : "one graph"] = {
    same_lists: ids.filter((found, i) => same(found, expected[i])).length,
    same_items: ids.reduce((sum, found, i) => sum + overlap(found, expected[i]), 0) / ids.length,
    differing: ids.flatMap((found, i) => (same(found, expected[i]) ? [] : [i])).slice(0, 20),
  };
}
console.log(JSON.stringify(report, null, 2));
await browser.close();
await server.close();
process.exitCode = Object.values(report).some((how) => how.same_lists < histories.length) ? 1 : 0;
