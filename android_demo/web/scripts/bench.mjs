/**
 * Measures the built page on a slowed processor: `npm run build && npm run bench [-- SLOWDOWN]`. Prints JSON.
 *
 * The slowdown is 4 by default. Calls are timed on the page's thread, because Chromium cannot slow down workers. Page
 * loads are timed with the demo itself: its model runs in a worker, so only the page's share of a load is slowed down.
 */

import { availableParallelism } from "node:os";
import { PHONE, launch } from "./chromium.mjs";
import { serve } from "./serve.mjs";
import { buildTestPage, openTestPage } from "./test_page.mjs";

const slowdown = Number(process.argv[2] ?? 4);
const ROUNDS = 10;
const LOADS = 5;
const at = (path) => new URL(path, import.meta.url).pathname;
const round = (ms) => Math.round(ms * 100) / 100;
const summary = (times) => {
  const sorted = [...times].sort((a, b) => a - b);
  const quantile = (q) => round(sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]);
  return { n: sorted.length, p50_ms: quantile(0.5), p95_ms: quantile(0.95) };
};
const slow = async (tab, rate) => {
  const devtools = await tab.context().newCDPSession(tab);
  await devtools.send("Emulation.setCPUThrottlingRate", { rate });
};

const browser = await launch();
const report = { slowdown, processors: availableParallelism(), chromium: browser.version() };

const pages = await serve({ "/": await buildTestPage(), "/bundle/": at("../dist/bundle") });
const tab = await openTestPage(browser, pages.url);
await tab.evaluate(() => window.page.open(true));
const [items] = (await tab.evaluate(() => window.page.recommend([[]], 20))).ids;
for (const rate of [1, slowdown]) {
  await slow(tab, rate);
  const times = { session: [], stateless: [] };
  for (let i = 0; i <= ROUNDS; i++) {
    const histories = items.map((_, n) => items.slice(0, n + 1));
    const session = await tab.evaluate((history) => window.page.observeAll(history), items);
    const stateless = (await tab.evaluate((list) => window.page.recommend(list, 10), histories)).ms;
    if (i > 0) for (const [name, ms] of Object.entries({ session, stateless })) times[name].push(...ms); // the first round is a warm-up
  }
  report[`call, slowed ${rate}x`] = { session: summary(times.session), stateless: summary(times.stateless) };
}
await pages.close();

const server = await serve({ "/": at("../dist") });
const loads = { first: [], again: [], offline: [] };
const opened = async (page) => {
  const begun = performance.now();
  await page.goto(server.url, { waitUntil: "commit" });
  await page.waitForSelector("#app[data-state=ready]", { timeout: 120_000 });
  return performance.now() - begun;
};
for (let i = 0; i <= LOADS; i++) {
  const context = await browser.newContext(PHONE);
  const page = await context.newPage();
  await slow(page, slowdown);
  const before = server.counts.sent;
  const first = await opened(page);
  report.first_load_bytes = server.counts.sent - before;
  await page.waitForSelector(".status[data-kind=good]", { timeout: 120_000 });
  report.bytes_until_offline_ready = server.counts.sent - before;
  const again = await opened(page);
  await context.setOffline(true);
  const offline = await opened(page);
  if (i > 0) for (const [name, ms] of Object.entries({ first, again, offline })) loads[name].push(ms); // in the first round the server compresses files
  await context.close();
}
for (const [name, times] of Object.entries(loads)) report[`load, ${name}`] = summary(times);
console.log(JSON.stringify(report, null, 2));
await browser.close();
await server.close();
