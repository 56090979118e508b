/**
 * What an app may ask of the recommendations: which items, how much they are favoured, how different they are.
 *
 * A `Control` is prepared once and used in any number of calls. A bias is exact inside the beam search: every node holds
 * the largest bias of the leaves under it, so a prefix that leads to a favoured item is favoured from the first level on.
 */

import { ConfigError } from "./errors";
import { quote } from "./quote";
import type { ItemTrie } from "./trie";

const MAX_BIAS = 1e6;
export const POOL = 4; // times k items to choose different ones from

/** The arguments that every way to recommend takes. */
export interface Ask {
  k?: number; // fewer come back only if the catalogue, less the excluded, has fewer
  excludeSeen?: boolean; // leave out every item of the history
  within?: ItemTrie | string | null; // a sub-catalogue, or the name of one
  beam?: number | null; // prefixes the search keeps; null: the model's own, never fewer than k
  control?: Control | null;
}

export interface Wishes {
  allow?: readonly string[] | null; // the only items that may come back; null: all
  deny?: readonly string[]; // items that may not
  within?: ItemTrie | string | null;
  bias?: Readonly<Record<string, number>> | null; // added to scores, by item id; with segments, by segment
  segments?: Readonly<Record<string, string>> | null; // the segment of each item id
  minScore?: number | null; // items that score less do not come back
  diversity?: number; // 0: by score alone; up to 1: ever more different from those before
}

/** Checked wishes, for the catalogue they were prepared for. */
export class Control {
  constructor(
    readonly catalogue: ItemTrie, // the items that may come back
    readonly bias: Float32Array | null = null, // [nNodes of catalogue], 0 at the root
    readonly minScore = -Infinity,
    readonly diversity = 0,
  ) {}
}

/** Check wishes and prepare them. whole: the catalogue; within: the part of it that is asked for. */
export function prepare(whole: ItemTrie, within: ItemTrie, wishes: Wishes): Control {
  const { allow = null, deny = [], bias = null, segments = null, minScore = null, diversity = 0 } = wishes;
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

/** Bias of every item by table row; ids that the catalogue lacks, and segments without a bias, count for nothing. */
function itemBias(whole: ItemTrie, bias: NonNullable<Wishes["bias"]>, segments: Wishes["segments"]): Float32Array {
  if (!isMapping(bias) || !(segments == null || isMapping(segments))) {
    throw new ConfigError("a bias is a mapping from item id (or segment) to a number; so are segments, from item id");
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

/** The largest bias under every node, 0 at the root; items: by table row. */
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
 * Choose k of n candidates by maximal marginal relevance (Carbonell & Goldstein 1998); their places, as chosen.
 *
 * Relevance is the score, scaled to [0, 1] over the candidates; two items are as similar as the share of levels that
 * their semantic IDs have in common from the first on. Rounded to float32 where numpy rounds, so that ties fall alike.
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
    let [best, most] = [-1, -Infinity];
    for (const i of left) {
      const worth = (value[i] as number) - diversity * (nearest[i] as number);
      if (worth > most) [best, most] = [i, worth];
    }
    chosen.push(best);
    left.delete(best);
    for (const i of left) nearest[i] = Math.max(nearest[i] as number, alike(sids, levels, best, i));
  }
  return chosen;
}

function alike(sids: Int32Array, levels: number, a: number, b: number): number {
  let same = 0;
  while (same < levels && sids[a * levels + same] === sids[b * levels + same]) same++;
  return same / levels;
}

/** Make sure of a list of item ids; `what` names it in the error. */
export function idList(what: string, ids: unknown): string[] {
  if (!Array.isArray(ids)) throw new ConfigError(`${what} is ${quote(ids, 60)}; give a list of item ids`);
  const place = ids.findIndex((id) => typeof id !== "string");
  if (place >= 0) {
    throw new ConfigError(`${what} has ${quote(ids[place], 60)} at position ${place}; item ids are strings`);
  }
  return ids as string[];
}

/** Make sure of a history: a list of item ids, oldest first. */
export function historyIds(history: unknown): string[] {
  if (!Array.isArray(history)) {
    throw new ConfigError(`the history is ${quote(history, 60)}; give a list of item ids, oldest first`);
  }
  return idList("the history", history);
}
