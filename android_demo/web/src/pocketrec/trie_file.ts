/**
 * The trie file: a catalogue as safetensors, checked in full before use.
 *
 * Format "pocketrec.trie", version 2: `codes` uint8 or uint16 [n, levels], sorted; `id_bytes` uint8 and `id_lengths`
 * uint16 [n]; optionally `title_bytes` and `title_lengths`. Metadata: format, version, sid_space, codes_per_level.
 */

import { TrieError, oneLine } from "./errors";
import { ItemTable } from "./item_table";
import { quote } from "./quote";
import { type Tensor, type TensorFile, readTensors } from "./safetensors";
import { type Texts, checkTexts } from "./texts";
import {
  MAX_CODES,
  MAX_FILE_BYTES,
  MAX_ID_BYTES,
  MAX_ITEMS,
  MAX_LEVELS,
  MAX_TITLE_BYTES,
  TRIE_FILE,
} from "./trie_limits";

const FORMAT = "pocketrec.trie";
const VERSION = "2";
const MAX_SPACE = 256;
const FETCH = "fetch it again or re-publish it";

export type Codes = Uint8Array | Uint16Array;

/** The content of a trie file. codes: [n, levels], row by row. */
export interface TrieContent {
  readonly codes: Codes;
  readonly levels: number;
  readonly table: ItemTable;
  readonly codesPerLevel: number;
  readonly sidSpace: string;
}

/** An error about the trie file. */
export function refusal(wrong: string, remedy = FETCH): TrieError {
  return new TrieError(`${TRIE_FILE} ${wrong}; ${remedy}`);
}

/** Read a trie file and check all but the order of its codes, which `ItemTrie` checks while it builds the nodes. */
export function readTrieFile(content: Uint8Array): TrieContent {
  if (content.length > MAX_FILE_BYTES)
    throw refusal(`is over the limit of ${MAX_FILE_BYTES} bytes`, "split the catalogue");
  let file: TensorFile;
  try {
    file = readTensors(content);
  } catch (error) {
    throw refusal(`is damaged or no safetensors file (${oneLine(error)})`);
  }
  const { sidSpace, codesPerLevel } = readMetadata(file.metadata);
  const names = [...file.tensors.keys()];
  const titled = names.includes("title_bytes") || names.includes("title_lengths");
  const needed = ["codes", "id_bytes", "id_lengths", ...(titled ? ["title_bytes", "title_lengths"] : [])];
  const missing = needed.find((name) => !names.includes(name));
  if (missing) throw refusal(`lacks the tensor ${quote(missing)}`);
  const extra = names.filter((name) => !needed.includes(name)).sort()[0];
  if (extra !== undefined) throw refusal(`has a tensor ${quote(extra)} that the format does not know`);

  const { codes, n, levels } = readCodes(file, codesPerLevel);
  const ids = readTexts(file, "id", n, 1, MAX_ID_BYTES);
  const table = new ItemTable(ids, titled ? readTexts(file, "title", n, 0, MAX_TITLE_BYTES) : null);
  try {
    table.checkUnique();
  } catch (error) {
    throw refusal(`is malformed (${oneLine(error)})`);
  }
  return { codes, levels, table, codesPerLevel, sidSpace };
}

function readMetadata(metadata: ReadonlyMap<string, string>): { sidSpace: string; codesPerLevel: number } {
  const [format, version] = [metadata.get("format"), metadata.get("version")];
  if (format !== FORMAT) throw refusal(`has format ${quote(format, 60)}, not ${quote(FORMAT)}`, "give a trie file");
  if (version !== VERSION) {
    throw refusal(
      `has version ${quote(version, 60)}, and this runtime reads ${quote(VERSION)}`,
      "update pocketrec or re-publish the file",
    );
  }
  const [sidSpace, text] = [metadata.get("sid_space"), metadata.get("codes_per_level")];
  if (sidSpace === undefined) throw refusal("lacks 'sid_space' in its metadata");
  if (text === undefined) throw refusal("lacks 'codes_per_level' in its metadata");
  if (sidSpace.length > MAX_SPACE) {
    throw refusal(`has a sid_space of ${sidSpace.length} characters; ${MAX_SPACE} are allowed`);
  }
  if (!/^[0-9]{1,5}$/.test(text) || Number(text) < 1 || Number(text) > MAX_CODES) {
    throw refusal(`says codes_per_level ${quote(text.slice(0, 20))}, which is not a number from 1 to ${MAX_CODES}`);
  }
  return { sidSpace, codesPerLevel: Number(text) };
}

/** A tensor, checked for its type and number of dimensions. */
function readTensor(file: TensorFile, name: string, dtype: string, dimensions: number): Tensor {
  const tensor = file.tensors.get(name) as Tensor;
  if (tensor.dtype !== dtype) {
    throw refusal(`has ${name} of type ${tensor.dtype}, where ${dtype.replace("U", "uint")} is needed`);
  }
  if (tensor.shape.length !== dimensions) {
    throw refusal(`has ${name} of shape ${quote(tensor.shape)}, where ${dimensions} dimension(s) are needed`);
  }
  return tensor;
}

function readCodes(file: TensorFile, codesPerLevel: number): { codes: Codes; n: number; levels: number } {
  const tensor = readTensor(file, "codes", codesPerLevel <= 256 ? "U8" : "U16", 2);
  const [n = 0, levels = 0] = tensor.shape;
  if (n > MAX_ITEMS) throw refusal(`holds ${n} items, over the limit of ${MAX_ITEMS}`, "split the catalogue");
  if (levels < 1 || levels > MAX_LEVELS) throw refusal(`has ${levels} levels, where 1 to ${MAX_LEVELS} are allowed`);
  const codes = tensor.dtype === "U8" ? tensor.bytes : words(tensor.bytes);
  let highest = 0;
  for (const code of codes) highest = Math.max(highest, code);
  if (highest >= codesPerLevel) throw refusal(`has a code ${highest}, but codes_per_level is ${codesPerLevel}`);
  return { codes, n, levels };
}

/** Little-endian uint16; the bytes need no alignment. */
function words(bytes: Uint8Array): Uint16Array {
  return new Uint16Array(bytes.slice().buffer);
}

function readTexts(file: TensorFile, what: string, n: number, shortest: number, longest: number): Texts {
  const bytes = readTensor(file, `${what}_bytes`, "U8", 1).bytes;
  const lengths = words(readTensor(file, `${what}_lengths`, "U16", 1).bytes);
  if (lengths.length !== n) throw refusal(`has ${lengths.length} ${what}_lengths for ${n} items`);
  const offsets = new Uint32Array(n + 1);
  let sum = 0;
  lengths.forEach((length, row) => {
    sum += length;
    offsets[row + 1] = sum;
  });
  if (sum !== bytes.length) throw refusal(`has ${what}_lengths that sum to ${sum}, but ${bytes.length} ${what}_bytes`);
  const [low, high] = [lengths.reduce((a, b) => Math.min(a, b), Infinity), lengths.reduce((a, b) => Math.max(a, b), 0)];
  if (n && (low < shortest || high > longest)) {
    throw refusal(`has ${what}s of ${low} to ${high} bytes; ${shortest} to ${longest} are allowed`);
  }
  const texts = { bytes, offsets };
  if (!checkTexts(texts)) throw refusal(`has ${what}s that are not valid UTF-8`);
  return texts;
}
