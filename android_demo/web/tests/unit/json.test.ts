import { describe, expect, test } from "vitest";
import { Fraction, parseJson } from "../../src/pocketrec/strict_json";

const parse = (text: string): unknown => parseJson(new TextEncoder().encode(text));

describe("strict JSON", () => {
  test("valid JSON is read", () => {
    expect(parse(' {"a": [1, -2, true, null, "x\\u0041\\n"], "b": {}} ')).toEqual(
      new Map<string, unknown>([
        ["a", [1, -2, true, null, "xA\n"]],
        ["b", new Map()],
      ]),
    );
    expect(parse("1.0")).toEqual(new Fraction(1));
    expect(parse("1e3")).toEqual(new Fraction(1000));
    expect((parse('{"__proto__": 1}') as Map<string, unknown>).get("__proto__")).toBe(1);
  });

  test.each([
    "",
    "{",
    "[1,]",
    '{"a":1,}',
    '{"a" 1}',
    '{"a":1} x',
    "NaN",
    "Infinity",
    "-",
    "01",
    "1.",
    '"\u0001"',
    '"\\x"',
    '{"a":1,"a":2}',
    "\ufeff1",
    "'a'",
    "[".repeat(3000),
  ])("%j is refused", (text) => expect(() => parse(text)).toThrow());

  test("bytes that are not UTF-8 are refused", () => {
    expect(() => parseJson(Uint8Array.of(0x22, 0xff, 0x22))).toThrow();
  });
});
