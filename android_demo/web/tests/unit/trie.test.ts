import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { TrieError } from "../../src/pocketrec/errors";
import { ItemTrie } from "../../src/pocketrec/trie";

const FILE = new URL("../../../../tests/vectors/bundles/wide/trie.safetensors", import.meta.url);
const trie = ItemTrie.load(new Uint8Array(readFileSync(FILE)));

/** The codes of every leaf, found by walking the nodes. */
function walked(of: ItemTrie): number[][] {
  const out: number[][] = [];
  const visit = (node: number, codes: number[]): void => {
    if (node >= of.nInternal) out[node - of.nInternal] = codes;
    else {
      const end = of.firstChild[node + 1] as number;
      for (let child = of.firstChild[node] as number; child < end; child++)
        visit(child, [...codes, of.codes[child] as number]);
    }
  };
  if (of.length) visit(0, []);
  return out;
}

const rowsOf = (of: ItemTrie): number[][] => Array.from({ length: of.length }, (_, leaf) => [...of.sid(leaf)]);

test("walking the trie gives every semantic ID, in the whole catalogue and in sub-catalogues", () => {
  expect(walked(trie)).toEqual(rowsOf(trie));
  const odd = trie.filter(Uint8Array.from({ length: trie.length }, (_, leaf) => leaf % 2));
  expect(walked(odd)).toEqual(rowsOf(odd));
  expect(odd.length).toBe(Math.floor(trie.length / 2));
  expect(walked(odd.filter(new Uint8Array(odd.length)))).toEqual([]);
});

test("maxBranch is the largest number of children at each depth", () => {
  const byFirst = new Map<number, number>();
  for (const [first] of rowsOf(trie)) byFirst.set(first ?? -1, (byFirst.get(first ?? -1) ?? 0) + 1);
  expect(trie.maxBranch).toEqual([byFirst.size, Math.max(...byFirst.values())]);
});

test("known ids are found, unknown ones are not", () => {
  const ids = Array.from({ length: trie.length }, (_, row) => trie.table.id(row));
  expect([...trie.table.find(ids)]).toEqual([...ids.keys()]);
  expect([...trie.table.find(["", "nobody", "\ud800", `${ids[0]} `])]).toEqual([-1, -1, -1, -1]);
  expect(ids.some((id) => id.includes("☃"))).toBe(true);
});

test("a sub-catalogue keeps the table of the whole catalogue", () => {
  const ids = [trie.table.id(7), "nobody", trie.table.id(3)];
  const few = trie.filterIds(ids);
  expect([few.tableRow(0), few.tableRow(1), few.length]).toEqual([3, 7, 2]);
  expect([...few.leavesOf(Int32Array.of(3, 4, 7))]).toEqual([0, -1, 1]);
  expect(() => trie.filterIds("7" as unknown as string[])).toThrow(TrieError);
});
