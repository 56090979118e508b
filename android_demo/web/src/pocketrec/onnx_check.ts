/**
 * Checks where an ONNX file stores its weights, before ONNX Runtime opens it: only files of the manifest are allowed.
 *
 * The check looks for the names of external files (onnx.proto: TensorProto.external_data). Messages without the word
 * "location" cannot hold one and are skipped. ONNX Runtime checks the rest of the file.
 */

import { quote } from "./quote";

const WORD = new TextEncoder().encode("location");
const MAX_DEPTH = 64;
const DAMAGED = "is damaged or no ONNX file";
type Kind = "model" | "training" | "function" | "graph" | "node" | "attribute" | "sparse" | "tensor" | "place";

/** For each kind of message: the fields, by number, that can lead to a tensor, and the kind of message in them. */
const SUBMESSAGES: Record<Kind, Record<number, Kind>> = {
  model: { 7: "graph", 20: "training", 25: "function" },
  training: { 1: "graph", 2: "graph" },
  function: { 7: "node", 11: "attribute" },
  graph: { 1: "node", 5: "tensor", 15: "sparse" },
  node: { 5: "attribute" },
  attribute: { 5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse" },
  sparse: { 1: "tensor", 2: "tensor" },
  tensor: { 13: "place" },
  place: {},
};

/**
 * Check that a graph refers only to listed files, and only to bytes inside them; returns the names of these files.
 *
 * sizes: size in bytes of the files that it may refer to, by name. An error's message is the second half of a sentence
 * that begins with the graph's name.
 */
export function checkGraph(graph: Uint8Array, sizes: ReadonlyMap<string, number>): Set<string> {
  const used = new Set<string>();
  if (!includes(graph, WORD)) return used;
  for (const place of places(graph, "model", 0)) {
    const name = place.get("location") ?? "";
    const size = sizes.get(name);
    if (size === undefined) {
      throw new Error(`takes weights from a file ${quote(name.slice(0, 60))} that the manifest does not list`);
    }
    const [offset, length] = [place.get("offset") ?? "0", place.get("length") ?? "0"];
    if (![offset, length].every((text) => /^[0-9]{1,15}$/.test(text))) {
      const said = `offset ${quote(offset.slice(0, 20))}, length ${quote(length.slice(0, 20))}`;
      throw new Error(`has no valid place in ${name}: ${said}`);
    }
    if (Number(offset) + Number(length) > size) throw new Error(`refers to bytes past the end of ${name}`);
    used.add(name);
  }
  return used;
}

/** The `external_data` entries, by key, of each tensor that is stored in another file. */
function* places(message: Uint8Array, kind: Kind, depth: number): Generator<Map<string, string>> {
  if (depth > MAX_DEPTH) throw new Error("is nested too deeply");
  const place = new Map<string, string>();
  for (const [number, value] of fields(message)) {
    const inner = SUBMESSAGES[kind][number];
    if (inner === "place") {
      const entry = new Map<number, string>(); // if a field occurs twice, the last one counts
      for (const [key, text] of fields(value)) entry.set(key, new TextDecoder().decode(text));
      const key = entry.get(1) ?? "";
      if (place.has(key)) throw new Error(`gives the ${quote(key.slice(0, 20))} of a tensor twice`);
      place.set(key, entry.get(2) ?? "");
    } else if (inner !== undefined && includes(value, WORD)) {
      yield* places(value, inner, depth + 1);
    }
  }
  if (place.has("location")) yield place;
}

/** Number and content of every length-delimited field of a message; other fields are skipped. */
function* fields(message: Uint8Array): Generator<[number, Uint8Array]> {
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let place = 0; place < 10; place++) {
      const byte = message[at++];
      if (byte === undefined) break;
      value |= BigInt(byte & 127) << BigInt(7 * place);
      if (byte < 128) return value;
    }
    throw new Error(DAMAGED);
  };
  while (at < message.length) {
    const tag = varint();
    const wire = Number(tag & 7n);
    let size = 0n;
    if (wire === 2) size = varint();
    else if (wire === 0) varint();
    else if (wire === 1 || wire === 5) size = wire === 1 ? 8n : 4n;
    else throw new Error(DAMAGED); // groups are not used in ONNX
    if (size > BigInt(message.length - at)) throw new Error(DAMAGED);
    const end = at + Number(size);
    if (wire === 2) yield [Number((tag & 0xffffffffn) >> 3n), message.subarray(at, end)]; // protobuf reads 32 bits of a tag
    at = end;
  }
}

function includes(bytes: Uint8Array, word: Uint8Array): boolean {
  for (let at = bytes.indexOf(word[0] as number); at >= 0; at = bytes.indexOf(word[0] as number, at + 1)) {
    if (word.every((byte, i) => bytes[at + i] === byte)) return true;
  }
  return false;
}
