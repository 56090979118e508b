/**
 * The recommender: item ids in, item ids with scores out. This is the class that an app calls.
 *
 * Only items of the catalogue come back, best first, and k of them whenever the catalogue has k to give. Unknown items
 * of a history are skipped and reported.
 */

import type { Source } from "./bundle";
import { type Control, type ControlOptions, prepare } from "./control";
import type { Engine } from "./engine";
import { ConfigError } from "./errors";
import { type Explanation, explain, explainAll } from "./explain";
import { LoadedBundle } from "./loaded_bundle";
import type { Manifest } from "./manifest";
import { quote } from "./quote";
import type { Recommendations } from "./recommendation";
import type { Query, Search } from "./retrieval";
import { Session, restore } from "./session";
import type { ItemTrie } from "./trie";

const EXPERT_FILES = { crowd: "graph.safetensors", words: "words.safetensors" };

export class Recommender {
  private constructor(readonly loaded: LoadedBundle) {}

  /**
   * Open a bundle, check the files that are used, and load its model.
   *
   * split: use the graphs of the encoder and of the search in place of the graph that holds both. An app that recommends
   * through sessions only should set it: it then fetches two graphs, not three.
   */
  static async load(source: Source, options: { split?: boolean } = {}): Promise<Recommender> {
    return new Recommender(await LoadedBundle.load(source, options.split ?? false));
  }

  get engine(): Engine {
    return this.loaded.engine;
  }

  get trie(): ItemTrie {
    return this.loaded.trie;
  }

  get manifest(): Manifest {
    return this.loaded.manifest;
  }

  /**
   * Parts of the bundle that this runtime does not use yet: "crowd" (the item graph) and "words". Where there are any,
   * lists and scores are those of the model alone.
   */
  get unusedParts(): readonly string[] {
    const { files } = this.manifest;
    return Object.entries(EXPERT_FILES).flatMap(([part, file]) => (files.has(file) ? [part] : []));
  }

  /** Recommend the items most likely to come after a history: item ids, oldest first. */
  async recommend(history: readonly string[], query: Query = {}): Promise<Recommendations> {
    const { loaded, engine } = this;
    loaded.checkOpen();
    const { leaves, unknown } = loaded.findLeaves(history);
    const sids = this.trie.sids(loaded.window(leaves));
    const search: Search = async (catalogue, excluded, beam, bias) =>
      bias === null
        ? engine.search(sids, catalogue, excluded, beam)
        : engine.searchFrom(await engine.read(sids), catalogue, excluded, beam, bias);
    return { items: await loaded.retrieval.evaluate(query, leaves, search), unknown };
  }

  /** Begin a session: a growing history whose read items are kept by the model. */
  session(history: readonly string[] = []): Session {
    return new Session(this.loaded, history);
  }

  /** Resume a session from the bytes of `Session.toBytes`; items that left the catalogue are in its `unknown`. */
  restoreSession(saved: Uint8Array): Promise<Session> {
    return restore(this.loaded, saved);
  }

  /** Prepare a sub-catalogue and name it for `within`; ids that the catalogue lacks are ignored. */
  addCatalogue(name: string, ids: readonly string[]): ItemTrie {
    return this.loaded.retrieval.addCatalogue(name, ids);
  }

  /** Check filters, biases and diversity once, for use in any number of calls. */
  control(options: ControlOptions): Control {
    return prepare(this.trie, this.loaded.retrieval.catalogue(options.within ?? null), options);
  }

  /** How much each item of a history changes an item's score; costs one search for each. */
  async explain(history: readonly string[], itemId: string): Promise<Explanation> {
    const { leaves } = this.loaded.findLeaves(history);
    const { leaves: wanted, unknown } = this.loaded.findLeaves([itemId]);
    if (unknown.length) throw new ConfigError(`the catalogue has no item ${quote(itemId)}; give one of its ids`);
    return explain(this.engine, this.trie, this.loaded.window(leaves), wanted[0] ?? 0);
  }

  /**
   * Explanations of several items at the cost of one. `proceed` is called before each search; if it resolves to false,
   * the result is empty.
   */
  explainAll(
    history: readonly string[],
    itemIds: readonly string[],
    proceed: () => Promise<boolean>,
  ): Promise<Explanation[]> {
    const window = this.loaded.window(this.loaded.findLeaves(history).leaves);
    return explainAll(this.engine, this.trie, window, this.loaded.findLeaves(itemIds).leaves, proceed);
  }

  /** Free the engine; may be called twice, but not while a call is running. */
  close(): Promise<void> {
    return this.loaded.close();
  }
}
