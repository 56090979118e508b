/** The built demo in Chromium as on a phone, from the first visit to a visit without a network. */

import { readFileSync, writeFileSync } from "node:fs";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { PHONE, executablePath, launch } from "../../scripts/chromium.mjs";
import type { Server } from "../../scripts/serve.mjs";
import { listFiles } from "../../scripts/service_worker.mjs";
import { APP, history, offlineReady, open, recommended, serveDemo, tab } from "./demo";

describe.skipIf(!executablePath)("the demo on a phone", () => {
  let browser: Browser;
  let server: Server;
  let context: BrowserContext;
  let page: Page;
  const requests: string[] = [];
  const errors: string[] = [];

  beforeAll(async () => {
    [browser, server] = await Promise.all([launch(), serveDemo()]);
    context = await browser.newContext(PHONE);
    context.on("request", (request) => requests.push(request.url()));
    page = await context.newPage();
    page.on("pageerror", (error) => errors.push(String(error)));
    await open(page, server.url);
  }, 120_000);
  afterAll(async () => {
    await browser?.close();
    await server?.close();
  });

  test("the first visit recommends, and shows size and latency", async () => {
    expect(await recommended(page)).toHaveLength(10);
    expect(await page.locator(".badge").textContent()).toMatch(/^\d+\.\d ms$/);
    await tab(page, "On device");
    expect(await page.locator(".facts").textContent()).toMatch(/[kM]B/);
    await tab(page, "For you");
  });

  test("a search finds titles, and taps on them change the recommendations", async () => {
    const before = await recommended(page);
    await tab(page, "Browse");
    const title = (await page.locator(".rows .title").nth(3).textContent()) ?? "";
    await page.locator("#search").fill(title.toUpperCase());
    await expect.poll(() => page.locator(".rows .title").first().textContent()).toBe(title);
    await page.locator(".rows .item").first().tap();
    await page.locator("#search").fill("");
    await page.locator(".rows .item").nth(1).tap();
    await page.locator(".rows .item").nth(5).tap();
    await expect.poll(() => page.locator('.item[aria-pressed="true"]').count()).toBe(3);
    await tab(page, "For you");
    expect(await history(page)).toHaveLength(3);
    expect((await history(page))[2]).toBe(title);
    await expect.poll(() => recommended(page)).not.toEqual(before);
  });

  test("a tap on a recommendation moves it into the history; undo moves it back", async () => {
    const before = await recommended(page);
    await page.locator(".cards button").first().tap();
    await expect.poll(async () => (await recommended(page)).includes(before[0] ?? "")).toBe(false);
    expect(await recommended(page)).toHaveLength(10);
    await page.locator(".notice").getByRole("button", { name: "Undo" }).tap();
    await expect.poll(() => recommended(page)).toEqual(before);
    expect(await history(page)).toHaveLength(3);
  });

  test("items of the history come back only if the switch allows it", async () => {
    const seen = await page.evaluate(
      () => (JSON.parse(localStorage.getItem("pocketrec.session") ?? "{}") as { items: string[] }).items,
    );
    expect(seen).toHaveLength(3);
    expect((await recommended(page)).filter((id) => seen.includes(id ?? ""))).toEqual([]);
    const before = await recommended(page);
    await page.locator("#seen").uncheck();
    await expect.poll(() => recommended(page)).toHaveLength(10);
    await page.locator("#seen").check();
    await expect.poll(() => recommended(page)).toEqual(before);
  });

  test("a filter leaves only titles with its words", async () => {
    const before = await recommended(page);
    const word = ((await page.locator(".cards .title").first().textContent()) ?? "").match(/\p{L}+|\p{N}+/u)?.[0] ?? "";
    await page.locator("#filter").fill(word);
    await expect
      .poll(async () => {
        const titles = await page.locator(".cards .title").allTextContents();
        return titles.length > 0 && titles.every((title) => title.toLowerCase().includes(word.toLowerCase()));
      })
      .toBe(true);
    await page.locator("#filter").fill("zzzzzz");
    await expect.poll(() => recommended(page)).toEqual([]);
    await page.locator("#filter").fill("");
    await expect.poll(() => recommended(page)).toEqual(before);
  });

  test("every recommendation has a reason: an item of the history, or a general favourite", async () => {
    const titles = await history(page);
    const because = [...titles.map((title) => `Because of ${title}`), "A general favourite"];
    await expect
      .poll(async () => (await page.locator(".why").allTextContents()).every((why) => because.includes(why)))
      .toBe(true);
  });

  test("the page can be installed", async () => {
    await offlineReady(page);
    const devtools = await context.newCDPSession(page);
    const { installabilityErrors } = await devtools.send("Page.getInstallabilityErrors");
    const errors = installabilityErrors.map((error) => error.errorId);
    expect(errors.filter((id) => id !== "in-incognito")).toEqual([]); // test profiles are incognito
    const manifest = JSON.parse(readFileSync(`${APP}/app.webmanifest`, "utf8")) as {
      icons: { sizes: string; src: string }[];
    };
    for (const icon of manifest.icons) expect((await page.request.get(server.url + icon.src)).ok()).toBe(true);
    expect(manifest.icons.map((icon) => icon.sizes)).toEqual(expect.arrayContaining(["192x192", "512x512"]));
  });

  test("a reload keeps the history and the recommendations", async () => {
    const [chosen, before] = [await history(page), await recommended(page)];
    await open(page, server.url);
    expect(await history(page)).toEqual(chosen);
    expect(await recommended(page)).toEqual(before);
  });

  test("a new version is offered, and used after a tap", async () => {
    writeFileSync(`${APP}/index.html`, readFileSync(`${APP}/index.html`, "utf8").replace("<title>", "<title>new "));
    listFiles(APP);
    await page.evaluate(async () => (await navigator.serviceWorker.getRegistration())?.update());
    const reload = page.locator(".notice").getByRole("button", { name: "Reload" });
    await reload.waitFor({ timeout: 20_000 });
    expect(await page.title()).toBe("pocketrec");
    await reload.tap();
    await expect.poll(() => page.title(), { timeout: 20_000 }).toBe("new pocketrec");
    await page.waitForSelector("#app[data-state=ready]");
  });

  test("without a network it opens, recommends and follows taps", async () => {
    const before = await recommended(page);
    await context.setOffline(true);
    await server.close();
    await open(page, server.url);
    expect(await recommended(page)).toEqual(before);
    expect(await page.locator(".status").textContent()).toMatch(/^Offline/);
    await page.locator(".cards button").first().tap();
    await expect.poll(() => recommended(page)).not.toEqual(before);
    expect(await history(page)).toHaveLength(4);
  });

  test("all requests went to its own origin, and nothing failed", () => {
    expect(requests.length).toBeGreaterThan(10);
    expect(requests.filter((url) => !url.startsWith(server.url))).toEqual([]);
    expect(errors).toEqual([]);
  });
});
