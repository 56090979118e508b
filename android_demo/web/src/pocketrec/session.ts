/**
 * A session: the growing history of one user, and the state of the model after reading it.
 *
 * The next call reads each new item once. Until the history is longer than the model reads, a call costs one step for
 * each new item; after that, every observation moves the window and the model reads all of it again. A session returns
 * what `Recommender.recommend` returns for the same history.
 */

import type { State } from "./engine";
import type { LoadedBundle } from "./loaded_bundle";
import type { Recommendations } from "./recommendation";
import type { Query } from "./retrieval";
import { modelId, readSession, writeSession } from "./saved_session";

export class Session {
  private leaves: number[] = []; // of the known items, oldest first
  private readCount = 0; // how many of them `state` has read
  private state: State | null = null;
  private unknownIds = new Set<string>();
  private turn: Promise<unknown> = Promise.resolve();

  /** Use `Recommender.session`. renewed: the session was saved under another model. */
  constructor(
    readonly loaded: LoadedBundle,
    history: readonly string[] = [],
    readonly renewed = false,
  ) {
    this.extend(history);
  }

  /** Observed ids that are not in the catalogue, each once. */
  get unknown(): string[] {
    return [...this.unknownIds];
  }

  /** Ids of the known items, oldest first. */
  get history(): string[] {
    const { trie } = this.loaded;
    return this.leaves.map((leaf) => trie.table.id(trie.tableRow(leaf)));
  }

  /** Add an item to the history. Returns false if the catalogue lacks it; the id is then added to `unknown` only. */
  observe(itemId: string): boolean {
    return this.extend([itemId]);
  }

  private extend(ids: readonly string[]): boolean {
    const { leaves, unknown } = this.loaded.findLeaves(ids);
    this.leaves = [...this.leaves, ...leaves];
    for (const id of unknown) this.unknownIds.add(id);
    return unknown.length === 0;
  }

  /** Recommend the items most likely to come next. Concurrent calls run in turn, each with the history at its call. */
  recommend(query: Query = {}): Promise<Recommendations> {
    const history = Int32Array.from(this.leaves);
    const result = this.turn.then(async () => {
      const state = await this.caughtUp(history);
      const items = await this.loaded.retrieval.evaluate(query, history, (catalogue, excluded, beam, bias) =>
        this.loaded.engine.searchFrom(state, catalogue, excluded, beam, bias),
      );
      return { items, unknown: [] };
    });
    this.turn = result.catch(() => undefined);
    return result;
  }

  /** The state after a history; the model reads the items that it has not read yet. */
  private async caughtUp(leaves: Int32Array): Promise<State> {
    this.loaded.checkOpen();
    const { engine, trie, manifest } = this.loaded;
    const moved = this.readCount < leaves.length && leaves.length > manifest.model.maxHistory;
    if (this.state === null || moved) {
      this.state = await engine.read(trie.sids(this.loaded.window(leaves))); // positions count from the window's start
    } else if (this.readCount < leaves.length) {
      this.state = await engine.read(trie.sids(leaves.subarray(this.readCount)), this.state);
    }
    this.readCount = leaves.length;
    return this.state;
  }

  /** The same session on another bundle. The state is kept if the model is the same and no read item has a new SID. */
  movedTo(loaded: LoadedBundle, observed: readonly string[], sameModel: boolean): Session {
    const moved = new Session(loaded, observed, !sameModel);
    const before = this.loaded.trie.sids(this.leaves.slice(0, this.readCount));
    const after = loaded.trie.sids(moved.leaves.slice(0, this.readCount));
    if (sameModel && after.length === before.length && after.every((code, i) => code === before[i])) {
      [moved.state, moved.readCount] = [this.state, this.readCount];
    }
    return moved;
  }

  /** The item ids and the model's id as bytes. The state is not saved: it is computed again. */
  async toBytes(): Promise<Uint8Array> {
    const items = this.history;
    return writeSession({ items, model: await modelId(this.loaded.manifest) });
  }
}

/** Resume a session from its bytes. */
export async function restore(loaded: LoadedBundle, saved: Uint8Array): Promise<Session> {
  const { items, model } = await readSession(saved);
  return new Session(loaded, items, model !== (await modelId(loaded.manifest)));
}
