/**
 * Explanations: how much each item of the history changes an item's score, found by leaving it out.
 *
 * An item's score does not depend on the rest of the catalogue. A search of a sub-catalogue that holds only the explained
 * items, in a beam as wide as their number, therefore gives all their scores at once.
 */

import type { Engine } from "./engine";
import type { ItemTrie } from "./trie";

export interface Explanation {
  readonly itemId: string;
  readonly score: number; // log-probability
  /** For each item that the model read, oldest first: the score minus the score without that item. */
  readonly history: readonly (readonly [itemId: string, change: number])[];
}

const NO_EXCLUSION = new Int32Array(0);

/** Explain one item. history and leaf are leaf rows. */
export async function explain(engine: Engine, trie: ItemTrie, history: Int32Array, leaf: number): Promise<Explanation> {
  const [explanation] = await explainAll(engine, trie, history, Int32Array.of(leaf), () => Promise.resolve(true));
  return explanation as Explanation;
}

/** Explain several items. `proceed` is called before each search; if it resolves to false, the result is empty. */
export async function explainAll(
  engine: Engine,
  trie: ItemTrie,
  history: Int32Array,
  leaves: Int32Array,
  proceed: () => Promise<boolean>,
): Promise<Explanation[]> {
  const mask = new Uint8Array(trie.length);
  for (const leaf of leaves) mask[leaf] = 1;
  const explained = trie.filter(mask);
  const scoresAfter = async (read: Int32Array): Promise<Map<number, number>> => {
    const state = await engine.read(trie.sids(read));
    const found = await engine.searchFrom(state, explained, NO_EXCLUSION, Math.max(1, explained.length), null);
    return new Map(Array.from(found.rows, (row, i) => [explained.tableRow(row), found.scores[i] as number]));
  };
  const withAll = await scoresAfter(history);
  const without: Map<number, number>[] = [];
  for (let n = 0; n < history.length; n++) {
    if (!(await proceed())) return [];
    without.push(await scoresAfter(history.filter((_, i) => i !== n)));
  }
  return Array.from(leaves, (leaf) => {
    const row = trie.tableRow(leaf);
    const score = withAll.get(row) ?? -Infinity;
    const changes = without.map((scores, n): [string, number] => [
      trie.table.id(trie.tableRow(history[n] as number)),
      score - (scores.get(row) ?? -Infinity),
    ]);
    return { itemId: trie.table.id(row), score, history: changes };
  });
}
