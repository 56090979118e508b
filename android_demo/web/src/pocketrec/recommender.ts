/**
 * The recommender: item ids in, item ids with scores out. What an app calls.
 *
 * Only items of the catalogue come back, best first, and k of them whenever the catalogue has k to give; unknown items
 * in a history are skipped and reported.
 */

import type { Found } from "./answers";
import { NOTHING } from "./answers";
import { type ColdItems, RECENT } from "./cold_items";
import { type Bundle, type Source, checkFit, openBundle } from "./bundle";
import { type Ask, Control, POOL, type Wishes, diverse, historyIds, prepare } from "./control";
import { Engine, type State } from "./engine";
import { ConfigError } from "./errors";
import { type Explanation, explain, explainAll } from "./explain";
import type { Manifest } from "./manifest";
import { startRuntime } from "./ort";
import { quote } from "./quote";
import { Session, restore } from "./session";
import { ItemTrie } from "./trie";

const MAX_SCORE = 1e9; // no log-probability of a sound model, bias included, comes near

/** One recommended item; `score` is its log-probability given the history. */
export interface Recommendation {
  readonly itemId: string;
  readonly score: number;
  readonly title: string | null;
}

/** Recommended items, best first, and the ids of the history that the catalogue lacks, each once. */
export interface Recommendations {
  readonly items: readonly Recommendation[];
  readonly unknown: readonly string[];
}

type Search = (trie: ItemTrie, exclude: Int32Array, width: number, bias: Float32Array | null) => Promise<Found>;

export class Recommender {
  private readonly named = new Map<string, ItemTrie>();
  private closed = false;

  constructor(
    readonly engine: Engine,
    readonly trie: ItemTrie,
    readonly manifest: Manifest,
    private readonly cold: ColdItems | null = null,
  ) {
    checkFit(manifest.model, trie);
  }

  /**
   * Open a bundle, check what is used of it, and load its model.
   *
   * split: use the encoder's and the search's graphs in place of the one that holds both; what an app wants that asks
   * through sessions alone.
   */
  static async load(source: Source, options: { split?: boolean } = {}): Promise<Recommender> {
    void startRuntime();
    const bundle: Bundle = await openBundle(source);
    const loadItems = async (): Promise<[ItemTrie, ColdItems | null]> => {
      const trie = await bundle.loadTrie();
      return [trie, await bundle.loadCold(trie.length)];
    };
    const [[trie, cold], engine] = await Promise.all([loadItems(), Engine.open(bundle, options.split ?? false)]);
    return new Recommender(engine, trie, bundle.manifest, cold);
  }

  /** Recommend the items most likely to come after a history: item ids, oldest first. */
  async recommend(history: readonly string[], ask: Ask = {}): Promise<Recommendations> {
    const { leaves, unknown } = this.findLeaves(history);
    const recent = this.trie.sids(this.recent(leaves));
    const search: Search = async (trie, exclude, width, bias) =>
      bias === null
        ? this.engine.search(recent, trie, exclude, width)
        : this.engine.searchFrom(await this.engine.read(recent), trie, exclude, width, bias);
    return this.namedItems(await this.choose(search, leaves, ask), unknown);
  }

  /** Recommend from what the engine has read already (sessions do). seen: leaf rows of the whole history. */
  async recommendState(state: State, seen: Int32Array, ask: Ask): Promise<Recommendations> {
    const search: Search = (trie, exclude, width, bias) => this.engine.searchFrom(state, trie, exclude, width, bias);
    return this.namedItems(await this.choose(search, seen, ask), []);
  }

  /** Begin a session: a history that grows, and what the model has read of it is kept. */
  session(history: readonly string[] = []): Session {
    return new Session(this, history);
  }

  /** Go on with a session that `Session.toBytes` left; items that are gone are its `unknown`. */
  restoreSession(saved: Uint8Array): Promise<Session> {
    return restore(this, saved);
  }

  /** Name a sub-catalogue that `within` takes; ids that the catalogue lacks are passed over. */
  addCatalogue(name: string, ids: readonly string[]): ItemTrie {
    const part = this.trie.filterIds(ids);
    this.named.set(name, part);
    return part;
  }

  /** Prepare wishes once, for any number of calls. */
  control(wishes: Wishes): Control {
    return prepare(this.trie, this.catalogue(wishes.within ?? null), wishes);
  }

  /** Say what each item of a history does for an item's score; costs a search for each. */
  async explain(history: readonly string[], itemId: string): Promise<Explanation> {
    const { leaves } = this.findLeaves(history);
    const { leaves: wanted, unknown } = this.findLeaves([itemId]);
    if (unknown.length) throw new ConfigError(`the catalogue has no item ${quote(itemId)}; give one of its ids`);
    return explain(this.engine, this.trie, this.recent(leaves), wanted[0] ?? 0);
  }

  /** Explanations of several items, for the price of one; they come as each item of the history has been weighed. */
  explainAll(
    history: readonly string[],
    itemIds: readonly string[],
    wait: () => Promise<boolean>,
  ): Promise<Explanation[]> {
    const wanted = this.findLeaves(itemIds).leaves;
    return explainAll(this.engine, this.trie, this.recent(this.findLeaves(history).leaves), wanted, wait);
  }

  /** Leaf rows of a history's known items, and its unknown ids, each once. */
  findLeaves(history: readonly string[]): { leaves: Int32Array; unknown: string[] } {
    const ids = historyIds(history);
    const leaves = this.trie.leavesOf(this.trie.table.find(ids));
    const unknown = [...new Set(ids.filter((_, i) => (leaves[i] as number) < 0))];
    return { leaves: leaves.filter((leaf) => leaf >= 0), unknown };
  }

  /** What the model reads of a history. */
  recent(leaves: Int32Array): Int32Array {
    return leaves.subarray(Math.max(0, leaves.length - this.manifest.model.maxHistory));
  }

  private namedItems(found: Found, unknown: readonly string[]): Recommendations {
    const { table } = this.trie;
    const items = Array.from(found.rows, (row, i) => ({
      itemId: table.id(row),
      score: found.scores[i] as number,
      title: table.title(row),
    }));
    return { items, unknown };
  }

  /** Search the catalogue that is asked for, and choose k of what is found: table rows and scores. */
  private async choose(search: Search, seen: Int32Array, ask: Ask): Promise<Found> {
    this.checkOpen();
    const k = positive("k", ask.k ?? 10);
    const width = ask.beam == null ? this.manifest.model.beam : positive("beam", ask.beam);
    const wish = this.wish(ask.within ?? null, ask.control ?? null);
    const { catalogue } = wish;
    let exclude = new Int32Array(ask.excludeSeen === false ? [] : new Set(seen)).sort();
    if (catalogue !== this.trie) exclude = catalogue.leavesOf(exclude).filter((leaf) => leaf >= 0) as typeof exclude;
    const wanted = Math.min(wish.diversity === 0 ? k : POOL * k, catalogue.length - exclude.length);
    if (wanted === 0) return NOTHING;
    let found = await search(catalogue, exclude, Math.max(width, wanted), wish.bias);
    // Seen items can crowd a narrow beam. One as wide as the wanted and the excluded together has enough left, since
    // every prefix it keeps leads to a leaf of its own.
    if (found.rows.length < wanted && Math.max(width, wanted) < wanted + exclude.length) {
      found = await search(catalogue, exclude, wanted + exclude.length, wish.bias);
    }
    if (this.cold) found = this.withCold(this.cold, catalogue, seen, exclude, found, wish.bias);
    const least = Math.max(Math.fround(wish.minScore), -MAX_SCORE);
    let places = Array.from(found.rows.keys()).filter((i) => {
      const score = found.scores[i] as number;
      return score >= least && score <= MAX_SCORE;
    });
    if (wish.diversity) {
      const sids = catalogue.sids(places.map((i) => found.rows[i] as number));
      const scores = Float32Array.from(places, (i) => found.scores[i] as number);
      places = diverse(scores, sids, k, wish.diversity).map((i) => places[i] as number);
    }
    const kept = places.slice(0, k);
    return {
      rows: Int32Array.from(kept, (i) => catalogue.tableRow(found.rows[i] as number)),
      scores: Float32Array.from(kept, (i) => found.scores[i] as number),
    };
  }

  /** Let new items take the places that those like them give them, in the order of scores. */
  private withCold(
    cold: ColdItems,
    catalogue: ItemTrie,
    seen: Int32Array,
    exclude: Int32Array,
    found: Found,
    bias: Float32Array | null,
  ): Found {
    const own = (leaf: number): number => (bias === null ? 0 : (bias[catalogue.nInternal + leaf] as number));
    const best = new Map(Array.from(found.rows, (leaf, i) => [leaf, found.scores[i] as number]));
    const likely = [...best].map(([leaf, score]) => score - own(leaf));
    const recent = Array.from(seen.slice(-RECENT), (leaf) => this.trie.tableRow(leaf)).reverse();
    const gained = cold.scored(
      recent,
      [...best.keys()].map((leaf) => catalogue.tableRow(leaf)),
      likely,
    );
    if (gained.size === 0) return found;
    const leaves = catalogue.leavesOf(Int32Array.from(gained.keys()));
    [...gained.values()].forEach((score, i) => {
      const leaf = leaves[i] as number;
      if (leaf < 0 || exclude.includes(leaf)) return;
      const total = Math.fround(score + own(leaf));
      best.set(leaf, Math.max(total, best.get(leaf) ?? total));
    });
    const order = [...best].sort((a, b) => b[1] - a[1]);
    return { rows: Int32Array.from(order, ([leaf]) => leaf), scores: Float32Array.from(order, ([, score]) => score) };
  }

  private wish(within: ItemTrie | string | null, control: Control | null): Control {
    if (control === null) return new Control(this.catalogue(within));
    if (within !== null) {
      throw new ConfigError("`within` and `control` are both given; give `within` to recommender.control");
    }
    if (!(control instanceof Control) || control.catalogue.table !== this.trie.table) {
      throw new ConfigError("`control` is not of this catalogue; make it with recommender.control");
    }
    return control;
  }

  private catalogue(within: ItemTrie | string | null): ItemTrie {
    if (within === null) return this.trie;
    if (typeof within === "string") {
      const known = [...this.named.keys()].sort().join(", ") || "none yet";
      const found = this.named.get(within);
      if (found) return found;
      throw new ConfigError(`there is no catalogue ${quote(within)} (there are: ${known}); make it with addCatalogue`);
    }
    if (!(within instanceof ItemTrie) || within.table !== this.trie.table) {
      throw new ConfigError("`within` is not a part of this catalogue; make it with trie.filter or trie.filterIds");
    }
    return within;
  }

  /** Make sure that the recommender was not closed. */
  checkOpen(): void {
    if (this.closed) throw new ConfigError("this recommender was closed; load it again");
  }

  /** Let go of the engine; may be called twice, but not while a call is running. */
  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    await this.engine.close();
  }
}

function positive(name: string, value: unknown): number {
  if (!Number.isInteger(value)) throw new ConfigError(`${name} is ${quote(value)}; give a whole number`);
  if ((value as number) < 1) throw new ConfigError(`${name} is ${quote(value)}; it must be at least 1`);
  return value as number;
}
