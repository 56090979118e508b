/** Reads safetensors files strictly: a short header, and tensors that fill the rest of the file without gaps. */

import { type Json, parseJson } from "./strict_json";
import { quote } from "./quote";

const MAX_HEADER_BYTES = 1 << 20;
const MAX_DIMENSIONS = 8;
const MAX_LENGTH = 2 ** 31;
const MAX_NAME = 256;

const BITS: Record<string, number> = {
  BOOL: 8,
  U8: 8,
  I8: 8,
  U16: 16,
  I16: 16,
  F16: 16,
  BF16: 16,
  U32: 32,
  I32: 32,
  F32: 32,
  U64: 64,
  I64: 64,
  F64: 64,
};

/** A tensor: its type in the names of the format ("F32", …), its shape, its bytes. */
export interface Tensor {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

export interface TensorFile {
  readonly metadata: ReadonlyMap<string, string>;
  readonly tensors: ReadonlyMap<string, Tensor>;
}

/** Read a safetensors file; tensors are views of it. An Error's message says only what is wrong, without the file's name. */
export function readTensors(file: Uint8Array): TensorFile {
  if (file.length < 8) throw new Error("it is too short for a header");
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const length = Number(view.getBigUint64(0, true));
  if (length > MAX_HEADER_BYTES) {
    throw new Error(`its header says that it has ${length} bytes, over the limit of ${MAX_HEADER_BYTES}`);
  }
  if (8 + length > file.length) throw new Error("its header ends past the end of the file");
  const header = parseJson(file.subarray(8, 8 + length));
  if (!(header instanceof Map)) throw new Error("its header is not an object");
  const data = file.subarray(8 + length);
  const places: Place[] = [];
  for (const [name, entry] of header) {
    if (name.length > MAX_NAME) throw new Error(`it has a tensor name of ${name.length} characters`);
    if (name !== "__metadata__") places.push(placeOf(name, entry));
  }
  checkFill(places, data.length);
  const tensors = places.map(({ name, dtype, shape, begin, end }): [string, Tensor] => [
    name,
    { dtype, shape, bytes: data.subarray(begin, end) },
  ]);
  return { metadata: metadataOf(header.get("__metadata__")), tensors: new Map(tensors) };
}

interface Place {
  name: string;
  dtype: string;
  shape: number[];
  begin: number;
  end: number;
}

function placeOf(name: string, entry: Json): Place {
  const shape = entry instanceof Map ? entry.get("shape") : undefined;
  if (!(entry instanceof Map) || !isSizes(shape) || shape.length > MAX_DIMENSIONS) {
    throw new Error(`its tensor ${quote(name)} has an invalid shape`);
  }
  const dtype = entry.get("dtype");
  const bits = typeof dtype === "string" ? BITS[dtype] : undefined;
  if (typeof dtype !== "string" || bits === undefined) throw new Error(`its tensor ${quote(name)} has no known type`);
  const offsets = entry.get("data_offsets");
  const [begin, end] = isSizes(offsets) ? offsets : [];
  if (begin === undefined || end === undefined || (offsets as Json[]).length !== 2) {
    throw new Error(`its tensor ${quote(name)} lies nowhere`);
  }
  const size = shape.reduce((product, length) => product * length, bits / 8);
  if (end - begin !== size) throw new Error(`its tensor ${quote(name)} has other bytes than its shape needs`);
  return { name, dtype, shape, begin, end };
}

function isSizes(value: Json | undefined): value is number[] {
  return Array.isArray(value) && value.every((v) => typeof v === "number" && v >= 0 && v <= MAX_LENGTH);
}

/** Check that the tensors cover every byte exactly once. */
function checkFill(places: readonly Place[], bytes: number): void {
  let end = 0;
  for (const place of [...places].sort((a, b) => a.begin - b.begin || a.end - b.end)) {
    if (place.begin !== end) throw new Error(`its tensor ${quote(place.name)} does not begin where the last one ends`);
    end = place.end;
  }
  if (end !== bytes) throw new Error(`its tensors have ${end} bytes, but the file has ${bytes}`);
}

function metadataOf(found: Json | undefined): Map<string, string> {
  if (found === undefined || found === null) return new Map();
  if (!(found instanceof Map) || ![...found.values()].every((value) => typeof value === "string")) {
    throw new Error("its metadata are no texts");
  }
  return found as Map<string, string>;
}
