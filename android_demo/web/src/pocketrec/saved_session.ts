/** A saved session: its item ids and the id of its model, as JSON; the same bytes as from the Python runtime. */

import { COLD_FILE } from "./cold_items";
import { SessionError, oneLine } from "./errors";
import { sha256 } from "./hash";
import type { Manifest } from "./manifest";
import { quote } from "./quote";
import { type Json, parseJson } from "./strict_json";
import { TRIE_FILE } from "./trie_limits";

const FORMAT = "pocketrec-session";
const VERSION = 1;
const REFRESHED_FILES = [TRIE_FILE, COLD_FILE, "graph.safetensors", "words.safetensors"]; // not of the model
const MAX_BYTES = 1 << 24;
const REMEDY = "start a new session";

const encoder = new TextEncoder();

export interface SavedSession {
  readonly items: readonly string[];
  readonly model: string; // what `modelId` gave
}

/** The bytes of a session. */
export async function writeSession({ items, model }: SavedSession): Promise<Uint8Array> {
  const content = { format: FORMAT, version: VERSION, model, sha256: await digest(items), items };
  return encoder.encode(JSON.stringify(content));
}

/** Read the bytes of a session; a SessionError says what is wrong. */
export async function readSession(data: Uint8Array): Promise<SavedSession> {
  if (data.length > MAX_BYTES) throw new SessionError(`the saved session has over ${MAX_BYTES} bytes; ${REMEDY}`);
  let content: Json;
  try {
    content = parseJson(data);
  } catch (error) {
    throw new SessionError(`the saved session is damaged (${oneLine(error)}); ${REMEDY}`);
  }
  if (!(content instanceof Map) || content.get("format") !== FORMAT) {
    throw new SessionError(`this is not a saved session; ${REMEDY}`);
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
    throw new SessionError(`the saved session is damaged (its items are not a list of ids); ${REMEDY}`);
  }
  if (content.get("sha256") !== (await digest(items))) {
    throw new SessionError(`the saved session is damaged (its items do not match its checksum); ${REMEDY}`);
  }
  return { items, model };
}

/** The id of a model: a hash over the hashes of its files, without those that a refresh changes and the model card. */
export async function modelId(manifest: Manifest): Promise<string> {
  const files = [...manifest.files]
    .filter(([name]) => !REFRESHED_FILES.includes(name) && !name.endsWith(".md"))
    .map(([name, entry]) => [name, entry.sha256] as const)
    .sort(([a], [b]) => (a < b ? -1 : 1));
  const text = files.map(([name, hash]) => `[${ascii(name)}, ${ascii(hash)}]`).join(", ");
  return sha256(encoder.encode(`[${text}]`));
}

async function digest(items: readonly string[]): Promise<string> {
  return sha256(encoder.encode(`[${items.map(ascii).join(", ")}]`));
}

/** A string as `json.dumps` of Python writes it (the hashes are of that text): printable ASCII, the rest escaped. */
function ascii(text: string): string {
  const escape = (unit: string): string => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return JSON.stringify(text).replace(/[\u007f-\uffff]/g, escape);
}
