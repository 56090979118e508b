/** Writes the list of a built page's files and their hashes into its service worker. */

import { createHash } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const MARK = "self.FILES=";

/** @param {string} folder a built page */
export function listFiles(folder) {
  const names = readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) =>
      join(entry.parentPath, entry.name)
        .slice(folder.length + 1)
        .replaceAll("\\", "/"),
    )
    .filter((name) => name !== "sw.js" && !name.endsWith(".md"))
    .sort();
  const files = names.map((url) => {
    return {
      url,
      sha256: createHash("sha256")
        .update(readFileSync(join(folder, url)))
        .digest("hex"),
    };
  });
  const path = join(folder, "sw.js");
  const code = readFileSync(path, "utf8").replace(new RegExp(`^${MARK}.*\n`), "");
  writeFileSync(path, `${MARK}${JSON.stringify(files)};\n${code}`);
}
