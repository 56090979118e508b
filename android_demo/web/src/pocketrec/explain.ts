/**
 * Why an item: what each item of the history does for it, weighed by leaving that item out.
 *
 * An item's score does not depend on what else is in the catalogue, so a search of a sub-catalogue of the items in
 * question, in a beam as wide as they are many, gives the score of every one.
 */

import type { Engine } from "./engine";
import type { ItemTrie } from "./trie";

export interface Explanation {
  readonly itemId: string;
  readonly score: number; // log-probability
  /** For each item that the model read, oldest first: the score less that of the history without it. */
  readonly history: readonly (readonly [itemId: string, change: number])[];
}

const NO_EXCLUSION = new Int32Array(0);

/** Weigh the history's items (leaf rows) for one item (leaf row). */
export async function explain(engine: Engine, trie: ItemTrie, history: Int32Array, leaf: number): Promise<Explanation> {
  const [explanation] = await explainAll(engine, trie, history, Int32Array.of(leaf), () => Promise.resolve(true));
  return explanation as Explanation;
}

/** As `explain`, for several items at once. `wait` is called between searches; if it gives false, nothing comes back. */
export async function explainAll(
  engine: Engine,
  trie: ItemTrie,
  history: Int32Array,
  leaves: Int32Array,
  wait: () => Promise<boolean>,
): Promise<Explanation[]> {
  const mask = new Uint8Array(trie.length);
  for (const leaf of leaves) mask[leaf] = 1;
  const few = trie.filter(mask);
  const scoresAfter = async (read: Int32Array): Promise<Map<number, number>> => {
    const state = await engine.read(trie.sids(read));
    const found = await engine.searchFrom(state, few, NO_EXCLUSION, Math.max(1, few.length), null);
    return new Map(Array.from(found.rows, (row, i) => [few.tableRow(row), found.scores[i] as number]));
  };
  const whole = await scoresAfter(history);
  const without: Map<number, number>[] = [];
  for (let n = 0; n < history.length; n++) {
    if (!(await wait())) return [];
    without.push(await scoresAfter(history.filter((_, i) => i !== n)));
  }
  return Array.from(leaves, (leaf) => {
    const row = trie.tableRow(leaf);
    const score = whole.get(row) ?? -Infinity;
    const changes = without.map((scores, n): [string, number] => [
      trie.table.id(trie.tableRow(history[n] as number)),
      score - (scores.get(row) ?? -Infinity),
    ]);
    return { itemId: trie.table.id(row), score, history: changes };
  });
}
