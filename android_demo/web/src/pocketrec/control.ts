/**
 * Control over recommendations: which items may come back, how much each is favoured, how different they are.
 *
 * A `Control` is prepared once and used in any number of calls. A bias acts inside the beam search: every node holds the
 * largest bias of the leaves below it, so a prefix of a favoured item is favoured from the first level on.
 */

import { ConfigError } from "./errors";
import { quote } from "./quote";
import type { ItemTrie } from "./trie";

const MAX_BIAS = 1e6;

/** The arguments of `Recommender.control`. */
export interface ControlOptions {
  allow?: readonly string[] | null; // ids of the only items that may come back; null: all
  deny?: readonly string[]; // ids of items that may not
  within?: ItemTrie | string | null; // a sub-catalogue, or its name
  bias?: Readonly<Record<string, number>> | null; // added to scores, by item id; with segments, by segment
  segments?: Readonly<Record<string, string>> | null; // the segment of each item id
  minScore?: number | null; // items with a lower score do not come back
  diversity?: number; // 0: by score alone; up to 1: each item as different as possible from those before it
}

/** Checked options, for the catalogue they were prepared for. */
export class Control {
  constructor(
    readonly catalogue: ItemTrie, // the items that may come back
    readonly bias: Float32Array | null = null, // [nNodes of catalogue], 0 at the root
    readonly minScore = -Infinity,
    readonly diversity = 0,
  ) {}
}

/** Check options and prepare them. whole: the whole catalogue; within: the sub-catalogue to choose from. */
export function prepare(whole: ItemTrie, within: ItemTrie, options: ControlOptions): Control {
  const { allow = null, deny = [], bias = null, segments = null, minScore = null, diversity = 0 } = options;
  if (typeof diversity !== "number" || !(diversity >= 0 && diversity <= 1)) {
    throw new ConfigError(`diversity is ${quote(diversity)}; give a number from 0 to 1`);
  }
  if (minScore !== null && typeof minScore !== "number") {
    throw new ConfigError(`min_score is ${quote(minScore)}; give a number (scores are log-probabilities) or None`);
  }
  if (Number.isNaN(minScore)) throw new ConfigError("min_score is NaN; give a number or None");
  const mask = new Uint8Array(within.length).fill(allow === null ? 1 : 0);
  if (allow !== null) for (const leaf of within.leavesOfIds(idList("allow", allow))) mask[leaf] = 1;
  for (const leaf of within.leavesOfIds(idList("deny", deny))) mask[leaf] = 0;
  const catalogue = mask.includes(0) ? within.filter(mask) : within;
  const nodes = bias === null ? null : nodeBias(catalogue, itemBias(whole, bias, segments));
  return new Control(catalogue, nodes, minScore ?? -Infinity, diversity);
}

/** Bias of every item by table row; ids that the catalogue lacks and segments without a bias are ignored. */
function itemBias(
  whole: ItemTrie,
  bias: NonNullable<ControlOptions["bias"]>,
  segments: ControlOptions["segments"],
): Float32Array {
  if (!isMapping(bias) || !(segments == null || isMapping(segments))) {
    throw new ConfigError(
      "give `bias` as a mapping from item id (or segment) to a number, and `segments` from item id to segment",
    );
  }
  for (const [name, value] of Object.entries(bias)) {
    if (typeof value !== "number" || !(Math.abs(value) <= MAX_BIAS)) {
      throw new ConfigError(`the bias of ${quote(name)} is ${quote(value)}; give a number of at most ±1e+06`);
    }
  }
  const ofItem = segments
    ? Object.entries(segments).flatMap(([id, s]) => (Object.hasOwn(bias, s) ? [[id, bias[s] as number] as const] : []))
    : Object.entries(bias);
  const out = new Float32Array(whole.table.length);
  whole.table.find(ofItem.map(([id]) => id)).forEach((row, i) => {
    if (row >= 0) out[row] = ofItem[i]?.[1] ?? 0;
  });
  return out;
}

function isMapping(value: unknown): boolean {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The largest bias below every node, float32 [nNodes], 0 at the root. items: bias by table row. */
function nodeBias(trie: ItemTrie, items: Float32Array): Float32Array {
  const out = new Float32Array(trie.nNodes);
  for (let leaf = 0; leaf < trie.length; leaf++) out[trie.nInternal + leaf] = items[trie.tableRow(leaf)] as number;
  for (let node = trie.nInternal - 1; node > 0; node--) {
    out[node] = out.subarray(trie.firstChild[node], trie.firstChild[node + 1]).reduce((a, b) => Math.max(a, b));
  }
  out[0] = 0;
  return out;
}

/**
 * Choose k of n candidates by maximal marginal relevance (Carbonell & Goldstein 1998); returns their indices, in order.
 *
 * scores: float32 [n], best first. sids: int32 [n, levels]. Relevance is the score scaled to [0, 1] over the candidates;
 * the similarity of two items is the share of levels in their common prefix. Values are rounded to float32 where numpy
 * rounds, so that ties break as in Python.
 */
export function diverse(scores: Float32Array, sids: Int32Array, k: number, diversity: number): number[] {
  const n = scores.length;
  const levels = n ? sids.length / n : 0;
  const last = scores[n - 1] ?? 0;
  const span = Math.fround((scores[0] ?? 0) - last);
  const relevance = scores.map((score) => (span > 0 ? Math.fround(score - last) / span : 1));
  const value = relevance.map((r) => Math.fround(1 - diversity) * r);
  const nearest = new Float64Array(n);
  const left = new Set(Array(n).keys());
  const chosen: number[] = [];
  while (chosen.length < k && left.size > 0) {
    let [best, highest] = [-1, -Infinity];
    for (const i of left) {
      const worth = (value[i] as number) - diversity * (nearest[i] as number);
      if (worth > highest) [best, highest] = [i, worth];
    }
    chosen.push(best);
    left.delete(best);
    for (const i of left) nearest[i] = Math.max(nearest[i] as number, similarity(sids, levels, best, i));
  }
  return chosen;
}

/** The share of levels that two semantic IDs have in common, from the first on. */
function similarity(sids: Int32Array, levels: number, a: number, b: number): number {
  let same = 0;
  while (same < levels && sids[a * levels + same] === sids[b * levels + same]) same++;
  return same / levels;
}

/** Check that `ids` is a list of item ids; `what` names it in the error. */
export function idList(what: string, ids: unknown): string[] {
  if (!Array.isArray(ids)) throw new ConfigError(`${what} is ${quote(ids, 60)}; give a list of item ids`);
  const place = ids.findIndex((id) => typeof id !== "string");
  if (place >= 0) {
    throw new ConfigError(`${what} has ${quote(ids[place], 60)} at position ${place}; item ids are strings`);
  }
  return ids as string[];
}

/** Check that `history` is a list of item ids. */
export function historyIds(history: unknown): string[] {
  if (!Array.isArray(history)) {
    throw new ConfigError(`the history is ${quote(history, 60)}; give a list of item ids, oldest first`);
  }
  return idList("the history", history);
}
