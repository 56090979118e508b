/** What a graph from outside may answer to a search, checked before anything is made of it. */

import { BundleError } from "./errors";

const ROUNDING = 1e-3; // what a log-probability may be above 0
const BIAS_ROUNDING = 1; // and what it may be above its bias, of up to a million in float32
const REMEDY = "export the bundle again";

/** Leaf rows and log-probabilities, best first. */
export interface Found {
  readonly rows: Int32Array;
  readonly scores: Float32Array;
}

export const NOTHING: Found = { rows: new Int32Array(0), scores: new Float32Array(0) };

/** What a graph gave: as ONNX Runtime's tensors tell it. */
export interface Answer {
  readonly type: string;
  readonly dims: readonly number[];
  readonly data: unknown;
}

/**
 * Return an answer without its empty slots (scores of -Infinity or NaN).
 *
 * items: leaves of the trie that was searched. exclude: leaf rows that may not be among them. largest: what the score
 * of each leaf may be; null: 0.
 */
export function soundAnswer(
  rows: Answer,
  scores: Answer,
  items: number,
  exclude: Int32Array,
  largest: Float32Array | null,
): Found {
  const found = withoutEmpty(rows, scores);
  if (found.rows.length === 0) return found;
  if (found.rows.some((row) => row < 0 || row >= items)) throw refused("names items that do not exist");
  const distinct = new Set(found.rows);
  if (distinct.size < found.rows.length || exclude.some((row) => distinct.has(row))) {
    throw refused("names an item twice, or one that was excluded");
  }
  if (found.scores.some((score, i) => i > 0 && score > (found.scores[i - 1] as number))) {
    throw refused("names a worse item before a better one");
  }
  const most = (i: number): number =>
    largest === null ? ROUNDING : (largest[found.rows[i] as number] as number) + BIAS_ROUNDING;
  if (found.scores.some((score, i) => score > most(i))) {
    throw refused(`gives a score of ${Number((found.scores[0] as number).toPrecision(3))}, which none is`);
  }
  return found;
}

function withoutEmpty(rows: Answer, scores: Answer): Found {
  const [listed, values] = [rows.data, scores.data];
  const flat = rows.dims.length === 1 && scores.dims.length === 1 && rows.dims[0] === scores.dims[0];
  if (!flat || !(listed instanceof Int32Array) || !(values instanceof Float32Array)) {
    throw new BundleError(
      `the bundle's graph answers ${rows.type} [${rows.dims.join(", ")}] and ${scores.type} ` +
        `[${scores.dims.join(", ")}], where int32 and float32 of one length are needed; ${REMEDY}`,
    );
  }
  const real = (_: number, i: number): boolean => (values[i] as number) > -Infinity; // false for NaN
  return { rows: listed.filter(real), scores: values.filter(real) };
}

function refused(what: string): BundleError {
  return new BundleError(`the bundle's graph ${what}; ${REMEDY}`);
}
