/** Draws the app's icons from its SVG: `node scripts/icons.mjs`. */

import { readFile } from "node:fs/promises";
import { launch } from "./chromium.mjs";

const folder = new URL("../public/", import.meta.url);
const svg = await readFile(new URL("icon.svg", folder), "utf8");
const full = svg.replace('rx="116"', 'rx="0"'); // the system rounds the corners itself
const smaller = full
  .replaceAll(/<rect x="158"/g, '<g transform="translate(51 51) scale(.8)"><rect x="158"')
  .replace("</svg>", "</g></svg>");

const browser = await launch();
const page = await browser.newPage();
for (const [name, size, drawing] of [
  ["icon-180.png", 180, full],
  ["icon-192.png", 192, svg],
  ["icon-512.png", 512, svg],
  ["icon-maskable-512.png", 512, smaller],
]) {
  await page.setViewportSize({ width: size, height: size });
  await page.setContent(`<style>body{margin:0}svg{display:block;width:${size}px;height:${size}px}</style>${drawing}`);
  await page.screenshot({ path: new URL(name, folder).pathname, omitBackground: true });
}
await browser.close();
