import { describe, expect, test } from "vitest";
import { TitleIndex, fold } from "../../src/app/search";

describe("searching titles", () => {
  const titles = ["Alien", "Amélie", "Resurrection of an Alien", "Aliens", "Mars Attacks", "Star Mars", "Wall-E"];
  const index = new TitleIndex(titles);
  const rank = Int32Array.from(titles.keys());
  const found = (query: string): (string | undefined)[] => index.find(query, rank).map((row) => titles[row]);

  test("order: the exact title, titles that begin with the query, titles with its words", () => {
    expect(found("alien")).toEqual(["Alien", "Aliens", "Resurrection of an Alien"]);
    expect(found("mars")).toEqual(["Mars Attacks", "Star Mars"]);
  });

  test("case, accents and the order of words do not matter", () => {
    expect(found("AMELIE")).toEqual(["Amélie"]);
    expect(found("mars star")).toEqual(["Star Mars"]);
    expect(fold("ÅÉ")).toBe("ae");
  });

  test("an empty query gives all titles in order; an unknown word gives none", () => {
    expect(found(" ")).toEqual(titles);
    expect(found("zzz")).toEqual([]);
  });
});
