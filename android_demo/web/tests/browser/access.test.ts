/** The built demo is accessible in both themes, and shows why a bundle was refused. */

import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { PHONE, executablePath, launch } from "../../scripts/chromium.mjs";
import type { Server } from "../../scripts/serve.mjs";
import { open, recommended, serveDemo, tab } from "./demo";

const TABS = ["For you", "Browse", "On device"];

/** Visible controls that are too small to tap (below 44 px) or have no name. */
function badControls(): string[] {
  const controls = document.querySelectorAll<HTMLElement>("button, label, input[type=search]");
  return [...controls]
    .filter((element) => element.checkVisibility({ visibilityProperty: true }))
    .flatMap((element) => {
      const { width, height } = element.getBoundingClientRect();
      const named = (element.getAttribute("aria-label") ?? element.textContent ?? "").trim() !== "";
      const small = Math.min(width, height) < 44 && !element.closest("label");
      return small || (!named && element.tagName === "BUTTON") ? [`${element.className} ${width}x${height}`] : [];
    });
}

/** Texts with a contrast below 4.5 to 1 (WCAG 2). */
function faintTexts(): string[] {
  const canvas = document.createElement("canvas").getContext("2d") as CanvasRenderingContext2D;
  const rgba = (color: string): number[] => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = ([r = 0, g = 0, b = 0]: number[]): number => {
    const linear = [r, g, b].map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * (linear[0] ?? 0) + 0.7152 * (linear[1] ?? 0) + 0.0722 * (linear[2] ?? 0);
  };
  const ground = (element: Element | null): number[] => {
    if (!element) return [255, 255, 255, 255];
    const color = rgba(getComputedStyle(element).backgroundColor);
    return (color[3] ?? 0) > 250 ? color : ground(element.parentElement);
  };
  return [...document.querySelectorAll("#app *")].flatMap((element) => {
    const own = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent?.trim());
    const out = !element.checkVisibility({ visibilityProperty: true, opacityProperty: true });
    if (!own || out || element.matches(".cover, :disabled")) return [];
    const [a, b] = [luminance(rgba(getComputedStyle(element).color)), luminance(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    return ratio < 4.5 ? [`${element.className} "${element.textContent}" ${ratio.toFixed(2)}`] : [];
  });
}

describe.skipIf(!executablePath)("the demo", () => {
  let browser: Browser;
  let server: Server;
  const phone = async (colorScheme: "light" | "dark" = "light"): Promise<Page> => {
    const context = await browser.newContext({ ...PHONE, colorScheme, serviceWorkers: "block" });
    return context.newPage();
  };

  beforeAll(async () => void ([browser, server] = await Promise.all([launch(), serveDemo()])), 120_000);
  afterAll(async () => {
    await browser?.close();
    await server?.close();
  });

  test.each(["light", "dark"] as const)("can be touched and read in the %s theme", async (theme) => {
    const page = await phone(theme);
    await open(page, server.url);
    await page.locator(".cards button").first().tap();
    for (const name of TABS) {
      await tab(page, name);
      await page.waitForTimeout(300); // until animations have ended
      expect(await page.evaluate(badControls)).toEqual([]);
      expect(await page.evaluate(faintTexts)).toEqual([]);
      expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(412);
    }
  });

  test("a chosen theme is kept", async () => {
    const page = await phone();
    await open(page, server.url);
    await page.getByRole("button", { name: "Switch to the dark theme" }).tap();
    await open(page, server.url);
    expect(await page.evaluate(() => getComputedStyle(document.documentElement).colorScheme)).toBe("dark");
  });

  test("works by keyboard alone", async () => {
    const page = await phone();
    await open(page, server.url);
    const before = await recommended(page);
    await page.locator(".cards button").nth(2).focus();
    await page.keyboard.press("Enter");
    await expect.poll(() => recommended(page)).not.toEqual(before);
    expect(await page.locator(".chip").count()).toBe(1);
  });

  test.each([
    ["manifest.json", (body: Buffer) => body.subarray(0, -20), "manifest.json is not valid JSON"],
    [
      "trie.safetensors",
      (body: Buffer) => body.fill(0xee, body.length - 1),
      "trie.safetensors is not the file of the manifest",
    ],
    ["model.safetensors", (body: Buffer) => body.subarray(1), "the manifest says"],
  ])("shows in one sentence what is wrong with %s", async (file, damage, says) => {
    const page = await phone();
    await page.route(`**/bundle/${file}`, async (route) => {
      const response = await route.fetch();
      await route.fulfill({ body: damage(await response.body()), contentType: "application/octet-stream" });
    });
    await page.goto(server.url);
    const refusal = page.getByRole("alert");
    await expect.poll(() => refusal.textContent(), { timeout: 20_000 }).toContain(says);
    expect(await page.locator(".card").first().isVisible()).toBe(false);
  });

  test("a damaged saved session is reported, and a new one begins", async () => {
    const page = await phone();
    await page.addInitScript(() => localStorage.setItem("pocketrec.session", "{"));
    await open(page, server.url);
    expect(await page.locator(".notice").textContent()).toContain("the saved session is damaged");
    expect(await recommended(page)).toHaveLength(10);
  });
});
