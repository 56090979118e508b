/** Reads fields of a JSON object of the manifest, checking types and ranges. */

import { BundleError } from "./errors";
import { quote } from "./quote";
import { Fraction, type Json, type JsonObject } from "./strict_json";

export const MANIFEST_FILE = "manifest.json";
export const REMEDY = "fetch the bundle again or re-export it";
export const MAX_TEXT = 256;
export const MAX_SIZE = 2 ** 24; // far above any count of a model on a device
const MAX_NUMBER = 1e30;

export class Fields {
  readonly data: JsonObject;
  private readonly where: string;

  /** Wrap `data`; `where` is the dotted path to it, for messages. */
  constructor(data: Json | undefined, where: string) {
    if (!(data instanceof Map)) {
      throw new BundleError(`${MANIFEST_FILE} has ${where || "a top level"} that is not an object; ${REMEDY}`);
    }
    this.data = data;
    this.where = where && `${where}.`;
  }

  refuse(name: string, needed: string): never {
    const value = this.data.get(name);
    const kind = Array.isArray(value) ? "list" : value instanceof Map ? "dict" : null;
    const found = this.data.has(name) ? `is ${kind ?? quote(value, 60)}` : "is missing";
    throw new BundleError(`${MANIFEST_FILE}: ${this.where}${name} ${found}, where ${needed} is needed; ${REMEDY}`);
  }

  fields(name: string): Fields {
    const value = this.data.get(name);
    return value instanceof Map ? new Fields(value, this.where + name) : this.refuse(name, "an object");
  }

  text(name: string): string {
    const value = this.data.get(name);
    const length = typeof value === "string" ? [...value].length : 0;
    if (typeof value !== "string" || length < 1 || length > MAX_TEXT) {
      this.refuse(name, `a text of 1 to ${MAX_TEXT} characters`);
    }
    return value;
  }

  integer(name: string, low: number, high = MAX_SIZE): number {
    const value = this.data.get(name);
    return isInteger(value, low, high) ? value : this.refuse(name, `a whole number from ${low} to ${high}`);
  }

  integers(name: string, count: number, low: number, high: number): number[] {
    const value = this.data.get(name);
    if (!Array.isArray(value) || value.length !== count || !value.every((v) => isInteger(v, low, high))) {
      this.refuse(name, `a list of ${count} whole numbers from ${low} to ${high}`);
    }
    return value as number[];
  }

  objects(name: string): JsonObject[] {
    const value = this.data.get(name);
    if (!Array.isArray(value) || !value.every((row) => row instanceof Map)) this.refuse(name, "a list of objects");
    return value as JsonObject[];
  }

  number(name: string): number {
    const found = this.data.get(name);
    const value = found instanceof Fraction ? found.value : found;
    return typeof value === "number" && value > 0 && value <= MAX_NUMBER
      ? value
      : this.refuse(name, "a positive number");
  }
}

function isInteger(value: Json | undefined, low: number, high: number): value is number {
  return typeof value === "number" && value >= low && value <= high;
}
