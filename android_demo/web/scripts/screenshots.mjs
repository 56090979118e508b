/** Takes screenshots of the built page, on a phone in both themes and on a desktop: `npm run build && npm run screenshots`. */

import { mkdirSync } from "node:fs";
import { PHONE, launch } from "./chromium.mjs";
import { serve } from "./serve.mjs";

const folder = new URL("../screenshots/", import.meta.url).pathname;
mkdirSync(folder, { recursive: true });
const server = await serve({ "/": new URL("../dist", import.meta.url).pathname });
const browser = await launch();
for (const theme of ["light", "dark"]) {
  const context = await browser.newContext({ ...PHONE, deviceScaleFactor: 2, colorScheme: theme });
  const page = await context.newPage();
  const take = async (name) => {
    await page.waitForTimeout(500);
    await page.screenshot({ path: `${folder}${name}-${theme}.png` });
  };
  const settled = () => page.waitForFunction(() => !document.querySelector(".why:empty"));
  await page.goto(server.url);
  await page.waitForSelector("#app[data-state=ready]");
  await page.waitForSelector(".status[data-kind=good]", { timeout: 60_000 });
  await take("start");
  await page.getByRole("button", { name: "Browse" }).tap();
  const wanted = process.argv.slice(2);
  for (const query of wanted.length ? wanted : ["matrix", "star wars", "blade runner", "alien"]) {
    await page.locator("#search").fill(query);
    if (await page.locator(".rows .item").count()) await page.locator(".rows .item").first().tap();
  }
  await take("browse");
  await page.getByRole("button", { name: "For you", exact: true }).tap();
  await settled();
  await page.waitForSelector(".notice:not(.open)", { state: "attached", timeout: 10_000 });
  await take("for-you");
  await page.getByRole("button", { name: "On device" }).tap();
  await take("on-device");
  await context.close();
}
const desk = await browser.newPage({ viewport: { width: 1180, height: 960 }, colorScheme: "light" });
await desk.goto(server.url);
await desk.waitForSelector(".status[data-kind=good]", { timeout: 60_000 });
await desk.screenshot({ path: `${folder}desktop.png` });
await browser.close();
await server.close();
