/** A bundle that is open: the engine, the catalogue and the manifest that recommenders and sessions share. */

import { type Source, checkFit, openBundle } from "./bundle";
import type { ColdItems } from "./cold_items";
import { historyIds } from "./control";
import { Engine } from "./engine";
import { ConfigError } from "./errors";
import type { Manifest } from "./manifest";
import { startRuntime } from "./ort";
import { Retrieval } from "./retrieval";
import type { ItemTrie } from "./trie";

export class LoadedBundle {
  readonly retrieval: Retrieval;
  private closed = false;

  constructor(
    readonly engine: Engine,
    readonly trie: ItemTrie,
    readonly manifest: Manifest,
    cold: ColdItems | null,
  ) {
    checkFit(manifest.model, trie);
    this.retrieval = new Retrieval(trie, manifest.model.beam, cold);
  }

  /** Open a bundle, check the files that are used, and load its model. split: see `Recommender.load`. */
  static async load(source: Source, split: boolean): Promise<LoadedBundle> {
    void startRuntime();
    const bundle = await openBundle(source);
    const loadItems = async (): Promise<[ItemTrie, ColdItems | null]> => {
      const trie = await bundle.loadTrie();
      return [trie, await bundle.loadCold(trie.length)];
    };
    const [[trie, cold], engine] = await Promise.all([loadItems(), Engine.open(bundle, split)]);
    return new LoadedBundle(engine, trie, bundle.manifest, cold);
  }

  /** Leaf rows of a history's known items, and its unknown ids, each once. */
  findLeaves(history: readonly string[]): { leaves: Int32Array; unknown: string[] } {
    const ids = historyIds(history);
    const leaves = this.trie.leavesOf(this.trie.table.find(ids));
    const unknown = [...new Set(ids.filter((_, i) => (leaves[i] as number) < 0))];
    return { leaves: leaves.filter((leaf) => leaf >= 0), unknown };
  }

  /** The end of a history that the model reads. */
  window(leaves: Int32Array): Int32Array {
    return leaves.subarray(Math.max(0, leaves.length - this.manifest.model.maxHistory));
  }

  /** Throw a ConfigError if the bundle was closed. */
  checkOpen(): void {
    if (this.closed) throw new ConfigError("this recommender was closed; load it again");
  }

  /** Free the engine; may be called twice, but not while a call is running. */
  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    await this.engine.close();
  }
}
