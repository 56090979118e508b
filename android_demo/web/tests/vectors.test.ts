/** The shared vectors hold in Node, with the same WebAssembly as in a browser. */

import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { runVectors } from "./vectors";

const FOLDER = new URL("../../../tests/vectors/", import.meta.url);

test("every vector holds", async () => {
  const outcomes = await runVectors((path) => readFile(new URL(path, FOLDER)).catch(() => null));
  expect(outcomes.filter((outcome) => outcome.failure)).toEqual([]);
  expect(outcomes.length).toBeGreaterThan(200);
});
