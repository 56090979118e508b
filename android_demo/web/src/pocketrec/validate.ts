/** Checks the output of a search graph. A graph comes from outside: its output is not trusted. */

import { BundleError } from "./errors";

const ROUNDING = 1e-3; // how far rounding may lift a log-probability above 0
const BIAS_ROUNDING = 1; // the same above the item's bias, which may be up to 1e6 in float32
const REMEDY = "export the bundle again";

/** Leaf rows and log-probabilities, best first. */
export interface Found {
  readonly rows: Int32Array;
  readonly scores: Float32Array;
}

export const NOTHING: Found = { rows: new Int32Array(0), scores: new Float32Array(0) };

/** One output of a graph: the part of ONNX Runtime's tensor that is looked at. */
export interface GraphOutput {
  readonly type: string;
  readonly dims: readonly number[];
  readonly data: unknown;
}

/**
 * The output of a search without its empty slots (scores of -Infinity or NaN); a BundleError if it is invalid.
 *
 * items: number of leaves in the trie that was searched. excluded: leaf rows that must not come back. limits: the largest
 * valid score of each leaf; null: 0 for all.
 */
export function validated(
  rows: GraphOutput,
  scores: GraphOutput,
  items: number,
  excluded: Int32Array,
  limits: Float32Array | null,
): Found {
  const found = withoutEmpty(rows, scores);
  if (found.rows.length === 0) return found;
  if (found.rows.some((row) => row < 0 || row >= items)) throw refusal("names items that do not exist");
  const distinct = new Set(found.rows);
  if (distinct.size < found.rows.length || excluded.some((row) => distinct.has(row))) {
    throw refusal("names an item twice, or one that was excluded");
  }
  if (found.scores.some((score, i) => i > 0 && score > (found.scores[i - 1] as number))) {
    throw refusal("names a worse item before a better one");
  }
  const limit = (i: number): number =>
    limits === null ? ROUNDING : (limits[found.rows[i] as number] as number) + BIAS_ROUNDING;
  if (found.scores.some((score, i) => score > limit(i))) {
    const highest = Number((found.scores[0] as number).toPrecision(3));
    throw refusal(`gives a score of ${highest}, but a log-probability is at most 0`);
  }
  return found;
}

function withoutEmpty(rows: GraphOutput, scores: GraphOutput): Found {
  const [listed, values] = [rows.data, scores.data];
  const flat = rows.dims.length === 1 && scores.dims.length === 1 && rows.dims[0] === scores.dims[0];
  if (!flat || !(listed instanceof Int32Array) || !(values instanceof Float32Array)) {
    throw new BundleError(
      `the bundle's graph returns ${rows.type} [${rows.dims.join(", ")}] and ${scores.type} ` +
        `[${scores.dims.join(", ")}], where int32 and float32 of one length are needed; ${REMEDY}`,
    );
  }
  const real = (_: number, i: number): boolean => (values[i] as number) > -Infinity; // false for NaN
  return { rows: listed.filter(real), scores: values.filter(real) };
}

function refusal(wrong: string): BundleError {
  return new BundleError(`the bundle's graph ${wrong}; ${REMEDY}`);
}
