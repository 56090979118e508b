/**
 * The manifest of a bundle: the model's shape, the files with their hashes, provenance and measures.
 *
 * Every field is checked for its type and range; a BundleError names a field that is wrong. Unknown fields are ignored.
 * A change of meaning raises the schema version, and other schema versions are refused.
 */

import { BundleError, oneLine } from "./errors";
import { Fields, MANIFEST_FILE, MAX_TEXT, REMEDY } from "./manifest_fields";
import { quote } from "./quote";
import { type Json, type JsonObject, parseJson } from "./strict_json";
import { MAX_CODES, MAX_FILE_BYTES, MAX_LEVELS, TRIE_FILE } from "./trie_limits";

export const SCHEMA_VERSION = 2;
export const MODEL_KIND = "llama-sid"; // the student: a token per item, a decoder of semantic IDs
export const TOKENS_KIND = "llama-tokens"; // a converted causal Llama: a token per code
export const MAX_MANIFEST_BYTES = 1 << 20;
const MAX_FILES = 64;
const MAX_WIDTH = 1 << 18;
const MAX_LAYERS = 1 << 10;
const MAX_HEADS = 1 << 10;
const MAX_HISTORY = 1 << 16;
const MAX_BEAM = 1 << 14;
const MAX_PAIR_CODES = 1 << 12;
const FILE_NAME = /^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?$/;
const SHA256 = /^[0-9a-f]{64}$/;

/** Shape of the model and of its search. */
export interface ModelSpec {
  readonly kind: string;
  readonly sidSpace: string; // hash of the codebooks
  readonly levels: number; // codes in a semantic ID
  readonly codes: number; // codes per level
  readonly maxHistory: number; // items
  readonly beam: number; // default beam width
  readonly maxBranch: readonly number[]; // largest number of children of a node that the graph takes, by depth
  readonly layers: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly parameters: number;
  readonly quantization: string; // type of the stored weights
  readonly prompt: number; // tokens that a "llama-tokens" model reads before the history
}

export interface FileEntry {
  readonly sha256: string;
  readonly bytes: number;
}

export interface Manifest {
  readonly model: ModelSpec;
  readonly catalogue: { readonly items: number; readonly sidSpace: string };
  readonly files: ReadonlyMap<string, FileEntry>;
  readonly graphs: ReadonlyMap<string, string>; // role -> file name
  readonly provenance: JsonObject;
  readonly metrics: JsonObject;
  readonly gates: readonly JsonObject[];
}

/** Check the content of a manifest.json; a BundleError names a field that is wrong. */
export function parseManifest(content: Uint8Array): Manifest {
  if (content.length > MAX_MANIFEST_BYTES) {
    throw new BundleError(`${MANIFEST_FILE} is over the limit of ${MAX_MANIFEST_BYTES} bytes; ${REMEDY}`);
  }
  const top = new Fields(parsed(content), "");
  const version = top.integer("schema_version", 1);
  if (version !== SCHEMA_VERSION) {
    const remedy = version < SCHEMA_VERSION ? "export the bundle again" : "update pocketrec";
    throw new BundleError(
      `${MANIFEST_FILE} has schema_version ${version}, and this pocketrec reads ${SCHEMA_VERSION}; ${remedy}`,
    );
  }
  const graphs = top.fields("graphs");
  const manifest: Manifest = {
    files: parseFiles(top.fields("files")),
    model: parseModel(top.fields("model")),
    catalogue: parseCatalogue(top.fields("catalogue")),
    graphs: new Map([...graphs.data.keys()].map((role) => [role, graphs.text(role)])),
    provenance: top.fields("provenance").data,
    metrics: top.fields("metrics").data,
    gates: top.data.has("gates") ? top.objects("gates") : [],
  };
  const needed: [string, string][] = [["the trie", TRIE_FILE]];
  for (const [role, name] of manifest.graphs) needed.push([`graph ${quote(role)}`, name]);
  for (const [what, name] of needed) {
    if (!manifest.files.has(name)) {
      throw new BundleError(`${MANIFEST_FILE} does not list ${quote(name)} (${what}) among its files; ${REMEDY}`);
    }
  }
  if (manifest.catalogue.sidSpace !== manifest.model.sidSpace) {
    throw new BundleError(
      `${MANIFEST_FILE}: the catalogue's sid_space ${quote(manifest.catalogue.sidSpace)} is not the model's ` +
        `${quote(manifest.model.sidSpace)}; re-export or re-publish both from the same codebooks`,
    );
  }
  return manifest;
}

function parsed(content: Uint8Array): Json {
  try {
    return parseJson(content);
  } catch (error) {
    throw new BundleError(`${MANIFEST_FILE} is not valid JSON (${oneLine(error)}); ${REMEDY}`);
  }
}

function parseFiles(fields: Fields): Map<string, FileEntry> {
  const count = fields.data.size;
  if (count > MAX_FILES) {
    throw new BundleError(`${MANIFEST_FILE} lists ${count} files, over the limit of ${MAX_FILES}; ${REMEDY}`);
  }
  const files = new Map<string, FileEntry>();
  for (const name of fields.data.keys()) {
    if (!FILE_NAME.test(name) || name.toLowerCase() === MANIFEST_FILE) {
      const said = quote(name.slice(0, MAX_TEXT));
      throw new BundleError(`${MANIFEST_FILE} lists a file ${said}, which is not a plain file name; ${REMEDY}`);
    }
    const entry = fields.fields(name);
    const sha256 = entry.text("sha256");
    if (!SHA256.test(sha256)) entry.refuse("sha256", "64 lower-case hex digits");
    files.set(name, { sha256, bytes: entry.integer("bytes", 0, MAX_FILE_BYTES) });
  }
  return files;
}

function parseCatalogue(fields: Fields): Manifest["catalogue"] {
  return { items: fields.integer("items", 0), sidSpace: fields.text("sid_space") };
}

function parseModel(fields: Fields): ModelSpec {
  const kind = fields.text("kind");
  if (kind !== MODEL_KIND && kind !== TOKENS_KIND) {
    throw new BundleError(
      `the model is of kind ${quote(kind)}, and this pocketrec runs ${quote(MODEL_KIND)} and ${quote(TOKENS_KIND)}; ` +
        "update pocketrec",
    );
  }
  const tokens = kind === TOKENS_KIND;
  const levels = fields.integer("levels", 1, MAX_LEVELS);
  const codes = fields.integer("codes", 1, MAX_CODES);
  const heads = fields.integer("heads", 1, MAX_HEADS);
  const spec: ModelSpec = {
    kind,
    sidSpace: fields.text("sid_space"),
    levels,
    codes,
    maxHistory: fields.integer("max_history", 1, MAX_HISTORY),
    beam: fields.integer("beam", 1, MAX_BEAM),
    maxBranch: fields.integers("max_branch", levels, 1, codes),
    layers: fields.integer("layers", 1, MAX_LAYERS),
    kvHeads: fields.integer("kv_heads", 1, MAX_HEADS),
    headDim: fields.integer("head_dim", 1, MAX_WIDTH),
    parameters: fields.integer("parameters", 1, 2 ** 40),
    quantization: fields.data.has("quantization") ? fields.text("quantization") : "none",
    prompt: tokens ? fields.integer("prompt", 0, MAX_HISTORY) : 0,
  };
  // Fields that this runtime does not use (the graphs hold these numbers) are checked all the same.
  for (const width of ["dim", "ffn"]) fields.integer(width, 1, MAX_WIDTH);
  for (const number of ["rope_theta", "norm_eps"]) fields.number(number);
  fields.integer("decoder_dim", tokens ? 0 : 1, tokens ? 0 : MAX_WIDTH);
  fields.integer("pair_dim", 0, tokens || codes > MAX_PAIR_CODES ? 0 : MAX_WIDTH);
  if (tokens) fields.integer("vocab", 1);
  const blocks = fields.data.has("blocks") ? fields.integer("blocks", 0, MAX_LAYERS) : 0;
  if (heads % spec.kvHeads) fields.refuse("kv_heads", `a divisor of heads, ${heads},`);
  if (spec.headDim % 2) fields.refuse("head_dim", "an even number");
  if (blocks > spec.layers) fields.refuse("blocks", `at most the number of layers, ${spec.layers},`);
  return spec;
}
