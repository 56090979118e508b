/**
 * Copies a bundle into public/bundle, where the page looks for it, without the graph that the page does not use.
 *
 *     npm run bundle -- PATH
 */

import { copyFileSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const [from] = process.argv.slice(2);
if (!from) {
  console.error("give the path of a bundle: npm run bundle -- PATH");
  process.exit(2);
}
const to = fileURLToPath(new URL("../public/bundle", import.meta.url));
const { files, graphs } = JSON.parse(readFileSync(join(from, "manifest.json"), "utf8"));
// The page recommends through sessions. These use the encoder and the search graph, not the one that holds both.
const names = ["manifest.json", ...Object.keys(files)].filter((name) => name !== graphs.recommender);
rmSync(to, { recursive: true, force: true });
mkdirSync(to, { recursive: true });
for (const name of names) copyFileSync(join(from, name), join(to, name));
console.log(`${resolve(from)}: ${names.length} files`);
