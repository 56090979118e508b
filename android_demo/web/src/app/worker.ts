/**
 * Runs the model in a worker.
 *
 * A recommendation takes less than a frame on most phones, but opening the bundle (hashing, compiling ONNX Runtime) and
 * explanations take longer and would block the page. A message to the worker costs a fraction of a millisecond.
 */

import { Recommender, type Session, SessionError, httpSource } from "../pocketrec/index";
import type { ItemTrie } from "../pocketrec/index";
import type {
  Calls,
  Catalogue,
  Facts,
  Opened,
  PageQuery,
  PageResult,
  Reasons,
  WorkerRequest,
  WorkerResponse,
} from "./protocol";
import { TitleIndex, wordsOf } from "./search";

const POPULAR = 60;
const UNUSED = /\.md$|^(graph|words)\.safetensors$/;

class Model implements Calls {
  private recommender!: Recommender;
  private session!: Session;
  private catalogue!: Catalogue;
  private index: TitleIndex | null = null; // built by the first filter
  private filter: { text: string; within: ItemTrie | null } = { text: "", within: null };
  private queries = 0; // how many have arrived

  async open(base: string, saved: string | null): Promise<Opened> {
    this.recommender = await Recommender.load(httpSource(base), { split: true });
    let notice: string | null = null;
    this.session = this.recommender.session();
    try {
      if (saved !== null) this.session = await this.recommender.restoreSession(new TextEncoder().encode(saved));
    } catch (error) {
      if (!(error instanceof SessionError)) throw error;
      notice = error.message;
    }
    const { table, length } = this.recommender.trie;
    const rows = Array.from({ length }, (_, row) => row);
    const ids = rows.map((row) => table.id(row));
    const titles = rows.map((row, i) => table.title(row) ?? (ids[i] as string));
    this.catalogue = { ids, titles, sids: Int32Array.from(this.recommender.trie.rows) };
    await this.session.recommend({ k: 1 }); // warm-up: the first run of a graph is many times slower
    return { facts: this.facts(), catalogue: this.catalogue, history: this.session.history, notice };
  }

  async popular(): Promise<readonly string[]> {
    const { items } = await this.recommender.session().recommend({ k: POPULAR });
    return items.map((item) => item.itemId);
  }

  private facts(): Facts {
    const { model, catalogue, files, graphs } = this.recommender.manifest;
    const used = [...files].filter(([name]) => !UNUSED.test(name) && name !== graphs.get("recommender"));
    const { unusedParts } = this.recommender;
    const listed = used.map(([name, { bytes }]) => ({ name, bytes }));
    const { parameters, quantization, beam, maxHistory, levels, codes } = model;
    const bytes = listed.reduce((sum, file) => sum + file.bytes, 0);
    const search = { beam, maxHistory, levels, codes };
    return { items: catalogue.items, bytes, files: listed, parameters, quantization, ...search, unusedParts };
  }

  async recommend({ history, k, excludeSeen, filter }: PageQuery): Promise<PageResult> {
    this.queries++;
    const within = this.filtered(filter);
    const start = performance.now();
    const session = this.sessionFor(history);
    const { items } = await session.recommend({ k, excludeSeen, within });
    const ms = performance.now() - start;
    return {
      items: items.map(({ itemId, score }) => ({ id: itemId, score })),
      ms,
      candidates: within?.length ?? this.catalogue.ids.length,
      saved: new TextDecoder().decode(await session.toBytes()),
    };
  }

  /** The session with this history. A history that continues the last one only adds its new items; any other starts again. */
  private sessionFor(history: readonly string[]): Session {
    const now = this.session.history;
    const continues = now.length <= history.length && now.every((id, i) => id === history[i]);
    if (continues) for (const id of history.slice(now.length)) this.session.observe(id);
    else this.session = this.recommender.session(history);
    return this.session;
  }

  /** The sub-catalogue of the titles that match a filter; null: no filter. */
  private filtered(text: string): ItemTrie | null {
    if (this.filter.text !== text) {
      const words = wordsOf(text);
      this.index ??= new TitleIndex(this.catalogue.titles);
      const mask = new Uint8Array(this.catalogue.titles.length);
      for (const row of this.index.matching(words)) mask[row] = 1;
      this.filter = { text, within: words.length ? this.recommender.trie.filter(mask) : null };
    }
    return this.filter.within;
  }

  async explain(history: readonly string[], items: readonly string[]): Promise<Reasons | null> {
    const { queries } = this;
    const proceed = async (): Promise<boolean> => {
      await new Promise((resolve) => setTimeout(resolve)); // lets a newer query arrive
      return queries === this.queries;
    };
    const explained = await this.recommender.explainAll(history, items, proceed);
    if (queries !== this.queries) return null;
    return new Map(
      explained.map(({ itemId, history: changes }) => {
        const [id, change] = changes.reduce((best, pair) => (pair[1] > best[1] ? pair : best), ["", 0]);
        return [itemId, change > 0 ? id : null];
      }),
    );
  }
}

const model = new Model();

self.addEventListener("message", async ({ data }: MessageEvent<WorkerRequest>) => {
  const { id, name, args } = data;
  let response: WorkerResponse;
  try {
    response = { id, value: await (model[name] as (...args: readonly unknown[]) => Promise<unknown>)(...args) };
  } catch (error) {
    const { name: kind, message } = error instanceof Error ? error : new Error(String(error));
    response = { id, error: { name: kind, message } };
  }
  self.postMessage(response);
});
