/**
 * A session: one user's history that grows, with what the model has read of it kept.
 *
 * Each observation is read once, at the next call; until the history is longer than the model's, a call costs what the
 * new items cost. From then on the window moves at every observation and is read anew. A session gives what
 * `Recommender.recommend` gives for the same history. Saved sessions are the Python runtime's, byte for byte.
 */

import { COLD_FILE } from "./cold_items";
import type { Ask } from "./control";
import type { State } from "./engine";
import { SessionError, oneLine } from "./errors";
import { sha256 } from "./hash";
import type { Manifest } from "./manifest";
import { quote } from "./quote";
import type { Recommendations, Recommender } from "./recommender";
import { type Json, parseJson } from "./strict_json";
import { TRIE_FILE } from "./trie_limits";

const FORMAT = "pocketrec-session";
const VERSION = 1;
const MAX_BYTES = 1 << 24;
const REMEDY = "start a new session";

const encoder = new TextEncoder();

export class Session {
  private leaves: number[] = []; // of the items so far, oldest first
  private readCount = 0; // how many of them `state` has read
  private state: State | null = null;
  private unknownIds = new Set<string>();
  private turn: Promise<unknown> = Promise.resolve();

  /** Most callers want `Recommender.session`. renewed: restored under another model than it was saved with. */
  constructor(
    readonly recommender: Recommender,
    history: readonly string[] = [],
    readonly renewed = false,
  ) {
    this.extend(history);
  }

  /** Ids that were observed but are not in the catalogue, each once. */
  get unknown(): string[] {
    return [...this.unknownIds];
  }

  /** Ids of the known items so far, oldest first. */
  get history(): string[] {
    const { trie } = this.recommender;
    return this.leaves.map((leaf) => trie.table.id(trie.tableRow(leaf)));
  }

  /** Add an item to the history; tell whether the catalogue has it (else it is only noted as unknown). */
  observe(itemId: string): boolean {
    return this.extend([itemId]);
  }

  private extend(ids: readonly string[]): boolean {
    const { leaves, unknown } = this.recommender.findLeaves(ids);
    this.leaves = [...this.leaves, ...leaves];
    for (const id of unknown) this.unknownIds.add(id);
    return unknown.length === 0;
  }

  /** Recommend the items most likely to come next. Calls at once take turns, each with the history of when it was made. */
  recommend(ask: Ask = {}): Promise<Recommendations> {
    const seen = Int32Array.from(this.leaves);
    const answer = this.turn.then(async () => this.recommender.recommendState(await this.caughtUp(seen), seen, ask));
    this.turn = answer.catch(() => undefined);
    return answer;
  }

  /** Let the model read what it has not read yet. */
  private async caughtUp(leaves: Int32Array): Promise<State> {
    this.recommender.checkOpen();
    const { engine, trie, manifest } = this.recommender;
    const moved = this.readCount < leaves.length && leaves.length > manifest.model.maxHistory;
    if (this.state === null || moved) {
      this.state = await engine.read(trie.sids(this.recommender.recent(leaves))); // every position is another
    } else if (this.readCount < leaves.length) {
      this.state = await engine.read(trie.sids(leaves.subarray(this.readCount)), this.state);
    }
    this.readCount = leaves.length;
    return this.state;
  }

  /** The same history on another recommender; what the same model has read is kept where the items are the same. */
  movedTo(recommender: Recommender, observed: readonly string[], sameModel: boolean): Session {
    const fresh = new Session(recommender, observed, !sameModel);
    const read = this.recommender.trie.sids(this.leaves.slice(0, this.readCount));
    const ours = recommender.trie.sids(fresh.leaves.slice(0, this.readCount));
    if (sameModel && ours.length === read.length && ours.every((code, i) => code === read[i])) {
      [fresh.state, fresh.readCount] = [this.state, this.readCount];
    }
    return fresh;
  }

  /** The session as bytes: its item ids, and which model it was for. Keys and values are made anew. */
  async toBytes(): Promise<Uint8Array> {
    const items = this.history;
    const model = await modelId(this.recommender.manifest);
    return encoder.encode(
      JSON.stringify({ format: FORMAT, version: VERSION, model, sha256: await digest(items), items }),
    );
  }
}

/** Go on with a saved session. */
export async function restore(recommender: Recommender, saved: Uint8Array): Promise<Session> {
  const { items, model } = await parse(saved);
  return new Session(recommender, items, model !== (await modelId(recommender.manifest)));
}

/** What names a model: a hash of its files' hashes, the catalogue and the model card aside. */
export async function modelId(manifest: Manifest): Promise<string> {
  const files = [...manifest.files]
    .filter(([name]) => name !== TRIE_FILE && name !== COLD_FILE && !name.endsWith(".md"))
    .map(([name, entry]) => [name, entry.sha256] as const)
    .sort(([a], [b]) => (a < b ? -1 : 1));
  const text = files.map(([name, hash]) => `[${ascii(name)}, ${ascii(hash)}]`).join(", ");
  return sha256(encoder.encode(`[${text}]`));
}

async function digest(items: readonly string[]): Promise<string> {
  return sha256(encoder.encode(`[${items.map(ascii).join(", ")}]`));
}

/** A text as Python's json writes it by default, whose output the hashes are of: all but printable ASCII escaped. */
function ascii(text: string): string {
  const escape = (unit: string): string => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return JSON.stringify(text).replace(/[\u007f-\uffff]/g, escape);
}

async function parse(data: Uint8Array): Promise<{ items: string[]; model: string }> {
  if (data.length > MAX_BYTES) throw new SessionError(`the saved session has over ${MAX_BYTES} bytes; ${REMEDY}`);
  let content: Json;
  try {
    content = parseJson(data);
  } catch (error) {
    throw new SessionError(`the saved session is damaged (${oneLine(error)}); ${REMEDY}`);
  }
  if (!(content instanceof Map) || content.get("format") !== FORMAT) {
    throw new SessionError(`this is no saved session; ${REMEDY}`);
  }
  const version = content.get("version");
  if (version !== VERSION) {
    throw new SessionError(
      `the saved session is of version ${quote(version, 20)}, and this pocketrec reads ${VERSION}; ` +
        `update pocketrec, or ${REMEDY}`,
    );
  }
  const [items, model] = [content.get("items"), content.get("model")];
  if (!Array.isArray(items) || !items.every((item) => typeof item === "string") || typeof model !== "string") {
    throw new SessionError(`the saved session is damaged (its items are no list of ids); ${REMEDY}`);
  }
  if (content.get("sha256") !== (await digest(items))) {
    throw new SessionError(`the saved session is damaged (its items are not those it was saved with); ${REMEDY}`);
  }
  return { items, model };
}
