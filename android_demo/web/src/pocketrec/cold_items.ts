/**
 * Cold items: items that the model has never seen in training. Each scores a share of the scores of similar items.
 *
 * File format "pocketrec.cold-items", version 1, safetensors: `items` int32 [m], table rows of the cold items, ascending;
 * `counts` uint8 [m], number of neighbours of each; `neighbours` int32 [sum of counts], table rows of the neighbours, one
 * cold item after the other; `weights` float16 [sum of counts], 0 to 1.
 */

import { BundleError, oneLine } from "./errors";
import { quote } from "./quote";
import { type Tensor, type TensorFile, readTensors } from "./safetensors";

export const COLD_FILE = "cold_items.safetensors";
const FORMAT = "pocketrec.cold-items";
const VERSION = "1";
const FROM_FOUND = 0.25; // share of a found item's probability that goes to its cold neighbours
const FROM_RECENT = [0.025, 0.0125, 0.00625]; // probability that goes to cold neighbours of the last three history items
/** Number of last history items whose cold neighbours score. */
export const RECENT = FROM_RECENT.length;
const TYPES: Record<string, string> = { items: "I32", counts: "U8", neighbours: "I32", weights: "F16" };
const REMEDY = "fetch the bundle again or refresh the catalogue again";

interface Share {
  readonly item: number;
  readonly weight: number;
}

export class ColdItems {
  private constructor(private readonly byNeighbour: ReadonlyMap<number, readonly Share[]>) {}

  /** Read and check a file. n: number of items in the catalogue. */
  static load(content: Uint8Array, n: number): ColdItems {
    let file: TensorFile;
    try {
      file = readTensors(content);
    } catch (error) {
      throw refusal(`is damaged or no safetensors file (${oneLine(error)})`);
    }
    const [format, version] = [file.metadata.get("format"), file.metadata.get("version")];
    if (format !== FORMAT || version !== VERSION) {
      const said = [format, version].map((text) => (text === undefined ? "None" : quote(text.slice(0, 60))));
      throw refusal(
        `has format ${said[0]}, version ${said[1]}, and this runtime reads ${quote(FORMAT)}, ${quote(VERSION)}`,
        "update pocketrec or refresh the catalogue again",
      );
    }
    const names = [...file.tensors.keys()].sort().join();
    if (names !== Object.keys(TYPES).sort().join())
      throw refusal(`has other tensors than ${Object.keys(TYPES).join(", ")}`);
    for (const [name, type] of Object.entries(TYPES)) {
      const { dtype, shape } = file.tensors.get(name) as Tensor;
      if (dtype !== type || shape.length !== 1) throw refusal(`has ${name} of ${dtype} [${shape.join(", ")}]`);
    }
    return new ColdItems(shares(file, n));
  }

  /**
   * Table rows of cold items, ascending, and their log-probabilities.
   *
   * recent: table rows of the last history items, newest first. found, scores: table rows and log-probabilities from the
   * search.
   */
  scored(recent: readonly number[], found: readonly number[], scores: readonly number[]): Map<number, number> {
    const totals = new Map<number, number>(); // probabilities
    const share = (neighbour: number, probability: number): void => {
      for (const { item, weight } of this.byNeighbour.get(neighbour) ?? [])
        totals.set(item, (totals.get(item) ?? 0) + probability * weight);
    };
    FROM_RECENT.slice(0, recent.length).forEach((probability, i) => share(recent[i] as number, probability));
    found.forEach((row, i) => share(row, FROM_FOUND * Math.exp(scores[i] as number)));
    const ascending = [...totals].sort(([a], [b]) => a - b);
    return new Map(ascending.map(([item, total]) => [item, Math.fround(Math.log(Math.max(total, 1e-38)))]));
  }
}

function refusal(wrong: string, remedy = REMEDY): BundleError {
  return new BundleError(`${COLD_FILE} ${wrong}; ${remedy}`);
}

function shares(file: TensorFile, n: number): Map<number, Share[]> {
  const view = (name: string): DataView => {
    const { bytes } = file.tensors.get(name) as Tensor;
    return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  };
  const [items, counts, neighbours, weights] = ["items", "counts", "neighbours", "weights"].map(view) as [
    DataView,
    DataView,
    DataView,
    DataView,
  ];
  const m = counts.byteLength;
  let sum = 0;
  for (let i = 0; i < m; i++) sum += counts.getUint8(i);
  if (items.byteLength !== 4 * m || neighbours.byteLength !== 4 * sum || weights.byteLength !== 2 * sum) {
    throw refusal("is malformed (its tensors do not fit each other)");
  }
  const out = new Map<number, Share[]>();
  for (let i = 0, at = 0, before = -1; i < m; i++) {
    const item = items.getInt32(4 * i, true);
    if (item <= before || item >= n) throw refusal("is malformed (its items are not rows of the catalogue, rising)");
    before = item;
    for (const end = at + counts.getUint8(i); at < end; at++) {
      const neighbour = neighbours.getInt32(4 * at, true);
      const weight = half(weights.getUint16(2 * at, true));
      if (neighbour < 0 || neighbour >= n) {
        throw refusal("is malformed (it names a neighbour that is not in the catalogue)");
      }
      if (!(weight > 0 && weight <= 1))
        throw refusal("is malformed (it has a weight that is not above 0 and at most 1)");
      out.set(neighbour, [...(out.get(neighbour) ?? []), { item, weight }]);
    }
  }
  return out;
}

/** A float16 number (IEEE 754 binary16) from its bits. */
function half(bits: number): number {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const sign = bits & 0x8000 ? -1 : 1;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? (1024 + fraction) * 2 ** (exponent - 25) : fraction * 2 ** -24);
}
