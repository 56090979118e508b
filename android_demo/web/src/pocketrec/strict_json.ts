/**
 * A strict JSON parser for files that are not trusted: ambiguous or invalid JSON is an Error.
 *
 * `JSON.parse` accepts an object with a name twice, and does not tell 1 from 1.0; hence this parser. Objects become Maps
 * (so that no name is special), and numbers with a point or an exponent become `Fraction`.
 */

const MAX_DEPTH = 500;
const MAX_DIGITS = 4300;

/** A number with a point or an exponent. */
export class Fraction {
  constructor(readonly value: number) {}
}

export type JsonObject = Map<string, Json>;
export type Json = null | boolean | number | Fraction | string | Json[] | JsonObject;

const ESCAPES: Record<string, string> = {
  '"': '"',
  "\\": "\\",
  "/": "/",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
};

/** Parse UTF-8 JSON. The caller limits its length. */
export function parseJson(content: Uint8Array): Json {
  const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(content);
  const parser = new Parser(text);
  return parser.document();
}

class Parser {
  private at = 0;

  constructor(private readonly text: string) {}

  document(): Json {
    const value = this.value(0);
    this.space();
    if (this.at < this.text.length) this.fail("more follows after its end");
    return value;
  }

  private fail(wrong: string): never {
    throw new Error(`${wrong}, at character ${this.at}`);
  }

  private space(): void {
    while (/[ \t\n\r]/.test(this.text[this.at] ?? "")) this.at++;
  }

  /** Skip `mark` if it comes next; returns whether it did. */
  private skip(mark: string): boolean {
    this.space();
    if (this.text[this.at] !== mark) return false;
    this.at++;
    return true;
  }

  private value(depth: number): Json {
    if (depth > MAX_DEPTH) throw new Error("it is nested too deeply");
    if (this.skip("{")) return this.object(depth);
    if (this.skip("[")) return this.array(depth);
    if (this.skip('"')) return this.string();
    for (const [word, value] of [
      ["true", true],
      ["false", false],
      ["null", null],
    ] as const) {
      if (this.text.startsWith(word, this.at)) {
        this.at += word.length;
        return value;
      }
    }
    return this.number();
  }

  private object(depth: number): JsonObject {
    const out: JsonObject = new Map();
    if (this.skip("}")) return out;
    do {
      if (!this.skip('"')) this.fail("a name is missing");
      const name = this.string();
      if (out.has(name)) throw new Error("an object has a name twice");
      if (!this.skip(":")) this.fail("a colon is missing");
      out.set(name, this.value(depth + 1));
    } while (this.skip(","));
    if (!this.skip("}")) this.fail("an object has no end");
    return out;
  }

  private array(depth: number): Json[] {
    const out: Json[] = [];
    if (this.skip("]")) return out;
    do out.push(this.value(depth + 1));
    while (this.skip(","));
    if (!this.skip("]")) this.fail("a list has no end");
    return out;
  }

  private string(): string {
    let out = "";
    for (;;) {
      const unescaped = /[^"\\\u0000-\u001f]*/y;
      unescaped.lastIndex = this.at;
      out += unescaped.exec(this.text)?.[0] ?? "";
      this.at = unescaped.lastIndex;
      const mark = this.text[this.at++];
      if (mark === '"') return out;
      if (mark !== "\\") this.fail("a text has no end");
      out += this.escape();
    }
  }

  private escape(): string {
    const letter = this.text[this.at++] ?? "";
    if (letter !== "u") return ESCAPES[letter] ?? this.fail("an escape that there is not");
    const digits = this.text.slice(this.at, this.at + 4);
    if (!/^[0-9a-fA-F]{4}$/.test(digits)) this.fail("an escape that there is not");
    this.at += 4;
    return String.fromCharCode(parseInt(digits, 16));
  }

  private number(): number | Fraction {
    const number = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?/y;
    number.lastIndex = this.at;
    const found = number.exec(this.text);
    if (!found) this.fail("a value is missing");
    if (found[0].length > MAX_DIGITS) this.fail("a number is too long");
    this.at = number.lastIndex;
    const value = Number(found[0]);
    return found[1] === undefined && found[2] === undefined ? value : new Fraction(value);
  }
}
