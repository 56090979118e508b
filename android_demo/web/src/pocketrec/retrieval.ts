/**
 * The rule that turns a query into a list: search, add cold items, drop low scores, diversify, keep the best k.
 *
 * The rule runs no model: `Recommender` and `Session` hand in the search.
 */

import { type Found } from "./validate";
import { type ColdItems, RECENT } from "./cold_items";
import { Control, diverse } from "./control";
import { ConfigError } from "./errors";
import { quote } from "./quote";
import type { Recommendation } from "./recommendation";
import { ItemTrie } from "./trie";

const MAX_SCORE = 1e9; // no log-probability of a valid model comes near, with any bias
const POOL = 4; // diversity chooses among this many times k candidates

/** The parameters of one call. */
export interface Query {
  k?: number; // how many items; fewer come back only if the catalogue, less the excluded items, has fewer
  excludeSeen?: boolean; // leave out every item of the history
  within?: ItemTrie | string | null; // a sub-catalogue, or its name
  beam?: number | null; // beam width; null: the model's own; never below k
  control?: Control | null; // made by `Recommender.control`
}

/** Find the best leaves of a (sub-)catalogue. excluded: leaf rows to leave out. bias: float32 [nNodes]. */
export type Search = (
  catalogue: ItemTrie,
  excluded: Int32Array,
  beam: number,
  bias: Float32Array | null,
) => Promise<Found>;

/** Evaluates queries against one catalogue. */
export class Retrieval {
  private readonly named = new Map<string, ItemTrie>();

  /** beam: the model's own beam width. cold: null if the bundle has no cold items. */
  constructor(
    private readonly trie: ItemTrie,
    private readonly beam: number,
    private readonly cold: ColdItems | null,
  ) {}

  /** Name a sub-catalogue; an older one of that name is replaced. */
  addCatalogue(name: string, ids: readonly string[]): ItemTrie {
    const subCatalogue = this.trie.filterIds(ids);
    this.named.set(name, subCatalogue);
    return subCatalogue;
  }

  /** The catalogue that `within` stands for; a ConfigError if it is unknown or belongs to another catalogue. */
  catalogue(within: ItemTrie | string | null): ItemTrie {
    if (within === null) return this.trie;
    if (typeof within === "string") {
      const known = [...this.named.keys()].sort().join(", ") || "none yet";
      const found = this.named.get(within);
      if (found) return found;
      throw new ConfigError(`there is no catalogue ${quote(within)} (there are: ${known}); make it with addCatalogue`);
    }
    if (!(within instanceof ItemTrie) || within.table !== this.trie.table) {
      throw new ConfigError(
        "`within` is not a sub-catalogue of this catalogue; make one with trie.filter or trie.filterIds",
      );
    }
    return within;
  }

  /** The best k items, best first. history: leaf rows of the whole history, oldest first. */
  async evaluate(query: Query, history: Int32Array, search: Search): Promise<Recommendation[]> {
    const limit = positive("k", query.k ?? 10);
    const beam = query.beam == null ? this.beam : positive("beam", query.beam);
    const control = this.controlOf(query);
    const { catalogue } = control;
    const k = Math.min(limit, catalogue.length);
    const excluded = query.excludeSeen === false ? new Int32Array(0) : this.excludedLeaves(catalogue, history);
    const wanted = Math.min(control.diversity ? POOL * k : k, catalogue.length - excluded.length);
    if (wanted === 0) return [];
    let found = await searchUntil(wanted, search, control, excluded, beam);
    if (this.cold) found = this.withCold(this.cold, control, history, excluded, found);
    return this.items(catalogue, chosen(control, found, k));
  }

  private controlOf({ within = null, control = null }: Query): Control {
    if (control === null) return new Control(this.catalogue(within));
    if (within !== null) {
      throw new ConfigError("`within` and `control` are both given; give `within` to recommender.control");
    }
    if (!(control instanceof Control) || control.catalogue.table !== this.trie.table) {
      throw new ConfigError("`control` belongs to another catalogue; make it with recommender.control");
    }
    return control;
  }

  /** Leaf rows of the history's items in a (sub-)catalogue, ascending, each once. */
  private excludedLeaves(catalogue: ItemTrie, history: Int32Array): Int32Array {
    const leaves = new Int32Array(new Set(history)).sort();
    return catalogue === this.trie ? leaves : catalogue.leavesOf(leaves).filter((leaf) => leaf >= 0);
  }

  /** Add the cold items, in the order of scores. */
  private withCold(cold: ColdItems, control: Control, history: Int32Array, excluded: Int32Array, found: Found): Found {
    const { catalogue, bias } = control;
    const biasOf = (leaf: number): number => (bias === null ? 0 : (bias[catalogue.nInternal + leaf] as number));
    const best = new Map(Array.from(found.rows, (leaf, i) => [leaf, found.scores[i] as number]));
    const shares = cold.scored(
      Array.from(history.slice(-RECENT), (leaf) => this.trie.tableRow(leaf)).reverse(),
      [...best.keys()].map((leaf) => catalogue.tableRow(leaf)),
      [...best].map(([leaf, score]) => score - biasOf(leaf)),
    );
    if (shares.size === 0) return found;
    const leaves = catalogue.leavesOf(Int32Array.from(shares.keys()));
    [...shares.values()].forEach((score, i) => {
      const leaf = leaves[i] as number;
      if (leaf < 0 || excluded.includes(leaf)) return;
      const total = Math.fround(score + biasOf(leaf));
      best.set(leaf, Math.max(total, best.get(leaf) ?? total));
    });
    const order = [...best].sort((a, b) => b[1] - a[1]);
    return { rows: Int32Array.from(order, ([leaf]) => leaf), scores: Float32Array.from(order, ([, score]) => score) };
  }

  /** Leaves of a catalogue as items. */
  private items(catalogue: ItemTrie, found: Found): Recommendation[] {
    const { table } = this.trie;
    return Array.from(found.rows, (leaf, i) => {
      const row = catalogue.tableRow(leaf);
      return { itemId: table.id(row), score: found.scores[i] as number, title: table.title(row) };
    });
  }
}

/** Search for `wanted` leaves, again in a wider beam if excluded leaves crowded the first one. */
async function searchUntil(
  wanted: number,
  search: Search,
  { catalogue, bias }: Control,
  excluded: Int32Array,
  beam: number,
): Promise<Found> {
  // Every prefix in a beam leads to a leaf of its own: a beam need not be wider than the catalogue, and `enough` leaves
  // room for all wanted leaves.
  const width = Math.min(Math.max(beam, wanted), catalogue.length);
  const enough = wanted + excluded.length;
  const found = await search(catalogue, excluded, width, bias);
  return found.rows.length < wanted && width < enough ? search(catalogue, excluded, enough, bias) : found;
}

/** The k best leaves with valid scores, or k different ones if the control asks for diversity. */
function chosen(control: Control, found: Found, k: number): Found {
  const least = Math.max(Math.fround(control.minScore), -MAX_SCORE);
  let places = Array.from(found.rows.keys()).filter((i) => {
    const score = found.scores[i] as number;
    return score >= least && score <= MAX_SCORE;
  });
  if (control.diversity) {
    const sids = control.catalogue.sids(places.map((i) => found.rows[i] as number));
    const scores = Float32Array.from(places, (i) => found.scores[i] as number);
    places = diverse(scores, sids, k, control.diversity).map((i) => places[i] as number);
  }
  const kept = places.slice(0, k);
  return {
    rows: Int32Array.from(kept, (i) => found.rows[i] as number),
    scores: Float32Array.from(kept, (i) => found.scores[i] as number),
  };
}

function positive(name: string, value: unknown): number {
  if (!Number.isInteger(value)) throw new ConfigError(`${name} is ${quote(value)}; give a whole number`);
  if ((value as number) < 1) throw new ConfigError(`${name} is ${quote(value)}; it must be at least 1`);
  return value as number;
}
