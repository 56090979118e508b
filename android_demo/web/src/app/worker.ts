/**
 * The model, in a thread of its own.
 *
 * One recommendation would fit into a frame of the page's own thread on most phones; opening the bundle (hashing,
 * compiling ONNX Runtime) and weighing the history for the reasons would not. The hop costs a fraction of a millisecond.
 */

import { Recommender, type Session, SessionError, httpSource } from "../pocketrec/index";
import type { ItemTrie } from "../pocketrec/index";
import type { Answered, Calls, Catalogue, Facts, Opened, Question, Reasons, Reply, Request } from "./protocol";
import { TitleIndex, wordsOf } from "./search";

const POPULAR = 60;
const UNUSED = /\.md$/;

class Brain implements Calls {
  private recommender!: Recommender;
  private session!: Session;
  private catalogue!: Catalogue;
  private index: TitleIndex | null = null; // made by the first filter
  private filter: { text: string; within: ItemTrie | null } = { text: "", within: null };
  private asked = 0;

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
    await this.session.recommend({ k: 1 }); // the first run of a graph makes its plans, and takes many times what others do
    return { facts: this.facts(), catalogue: this.catalogue, history: this.session.history, notice };
  }

  async popular(): Promise<readonly string[]> {
    const { items } = await this.recommender.session().recommend({ k: POPULAR });
    return items.map((item) => item.itemId);
  }

  private facts(): Facts {
    const { model, catalogue, files, graphs } = this.recommender.manifest;
    const used = [...files].filter(([name]) => !UNUSED.test(name) && name !== graphs.get("recommender"));
    const listed = used.map(([name, { bytes }]) => ({ name, bytes }));
    const { parameters, quantization, beam, maxHistory, levels, codes } = model;
    const bytes = listed.reduce((sum, file) => sum + file.bytes, 0);
    return { items: catalogue.items, bytes, files: listed, parameters, quantization, beam, maxHistory, levels, codes };
  }

  async recommend({ history, k, excludeSeen, filter }: Question): Promise<Answered> {
    this.asked++;
    const within = this.within(filter);
    const start = performance.now();
    const session = this.follow(history);
    const { items } = await session.recommend({ k, excludeSeen, within });
    const ms = performance.now() - start;
    return {
      items: items.map(({ itemId, score }) => ({ id: itemId, score })),
      ms,
      candidates: within?.length ?? this.catalogue.ids.length,
      saved: new TextDecoder().decode(await session.toBytes()),
    };
  }

  /** The session with this history: a longer one goes on from what was read, any other begins anew. */
  private follow(history: readonly string[]): Session {
    const now = this.session.history;
    const longer = now.length <= history.length && now.every((id, i) => id === history[i]);
    if (longer) for (const id of history.slice(now.length)) this.session.observe(id);
    else this.session = this.recommender.session(history);
    return this.session;
  }

  private within(text: string): ItemTrie | null {
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
    const { asked } = this;
    const stillWanted = async (): Promise<boolean> => {
      await new Promise((resolve) => setTimeout(resolve)); // lets a newer question in
      return asked === this.asked;
    };
    const explained = await this.recommender.explainAll(history, items, stillWanted);
    if (asked !== this.asked) return null;
    return new Map(
      explained.map(({ itemId, history: changes }) => {
        const [id, change] = changes.reduce((best, pair) => (pair[1] > best[1] ? pair : best), ["", 0]);
        return [itemId, change > 0 ? id : null];
      }),
    );
  }
}

const brain = new Brain();

self.addEventListener("message", async ({ data }: MessageEvent<Request>) => {
  const { id, name, args } = data;
  let reply: Reply;
  try {
    reply = { id, value: await (brain[name] as (...args: readonly unknown[]) => Promise<unknown>)(...args) };
  } catch (error) {
    const { name: kind, message } = error instanceof Error ? error : new Error(String(error));
    reply = { id, error: { name: kind, message } };
  }
  self.postMessage(reply);
});
