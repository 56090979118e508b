/** No file of src/ imports itself through others; imports of types count, too. */

import { readFileSync, readdirSync } from "node:fs";
import { posix } from "node:path";
import { expect, test } from "vitest";
import { parseSync } from "vite";

const SRC = new URL("../../src/", import.meta.url);

/** Files by their path below src/, without ".ts". */
function readSources(): Map<string, string> {
  const names = readdirSync(SRC, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts"));
  return new Map(
    names.map((name) => [name.replaceAll("\\", "/").slice(0, -3), readFileSync(new URL(name, SRC), "utf8")]),
  );
}

/** The files that a file imports or exports from, statically or by `import("…")`. */
function importsOf(path: string, text: string): string[] {
  const { module, errors } = parseSync(`${path}.ts`, text);
  expect(errors).toEqual([]);
  const requests = [
    ...module.staticImports.map((found) => found.moduleRequest.value),
    ...module.staticExports.flatMap((found) => found.entries.map((entry) => entry.moduleRequest?.value)),
    ...module.dynamicImports.map(({ moduleRequest: { start, end } }) => text.slice(start + 1, end - 1)),
  ];
  return requests
    .filter((request) => request?.startsWith("."))
    .map((request) => posix.join(posix.dirname(path), request as string));
}

/** Every import cycle that a depth-first walk meets, as the list of its files. */
function cycles(sources: ReadonlyMap<string, string>): string[][] {
  const imports = new Map([...sources].map(([path, text]) => [path, importsOf(path, text)]));
  const finished = new Set<string>();
  const found: string[][] = [];
  const visit = (path: string, trail: readonly string[]): void => {
    if (trail.includes(path)) found.push(trail.slice(trail.indexOf(path)));
    else if (!finished.has(path)) {
      for (const next of imports.get(path) ?? []) visit(next, [...trail, path]);
      finished.add(path);
    }
  };
  for (const path of sources.keys()) visit(path, []);
  return found;
}

test("there is no import cycle", () => {
  const sources = readSources();
  expect(sources.size).toBeGreaterThan(30);
  const unknown = [...sources].flatMap(([path, text]) => importsOf(path, text)).filter((path) => !sources.has(path));
  expect(unknown).toEqual([]);
  expect(cycles(sources)).toEqual([]);
});

test.each(['import type { Session } from "./session";', 'export * from "./session";', 'void import("./session");'])(
  "a cycle made by %s is found",
  (line) => {
    const sources = readSources();
    const path = "pocketrec/loaded_bundle"; // which the session imports
    sources.set(path, `${line}\n${sources.get(path)}`);
    expect(cycles(sources)).toContainEqual([path, "pocketrec/session"]);
  },
);
