/** Formats values as the Python runtime does, so that an error reads the same in every runtime. */

import { Fraction } from "./strict_json";

/** Strings in quotes; True, False and None; anything else as JSON. At most `longest` characters. */
export function quote(value: unknown, longest = Infinity): string {
  return written(value).slice(0, longest);
}

function written(value: unknown): string {
  if (typeof value === "string") return quoted(value);
  if (value === true) return "True";
  if (value === false) return "False";
  if (value === null || value === undefined) return "None";
  if (value instanceof Fraction) return String(value.value);
  if (Array.isArray(value)) return `[${value.map(written).join(", ")}]`;
  return typeof value === "object" ? (JSON.stringify(value) ?? "") : String(value);
}

function quoted(text: string): string {
  const mark = text.includes("'") && !text.includes('"') ? '"' : "'";
  const inner = text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll("\r", "\\r").replaceAll("\t", "\\t");
  return mark + (mark === "'" ? inner.replaceAll("'", "\\'") : inner) + mark;
}
