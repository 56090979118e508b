import { readFile } from "node:fs/promises";
import { beforeAll, describe, expect, test } from "vitest";
import { BundleError, ConfigError, LiveRecommender, Recommender, type Source } from "../../src/pocketrec/index";

const BUNDLES = new URL("../../../../tests/vectors/bundles/", import.meta.url);
const source =
  (name: string, asked: string[] = []): Source =>
  (file) => {
    asked.push(file);
    return readFile(new URL(`${name}/${file}`, BUNDLES)).catch(() => null);
  };

describe("a recommender", () => {
  let rec: Recommender;
  beforeAll(async () => void (rec = await Recommender.load(source("plain"))));

  test("calls at once give what calls in turn give", async () => {
    const histories = Array.from({ length: 8 }, (_, n) =>
      Array.from({ length: n % 6 }, (_, k) => `item-${(n * k) % 60}`),
    );
    const alone = [];
    for (const history of histories) alone.push(await rec.recommend(history));
    expect(await Promise.all(histories.map((history) => rec.recommend(history)))).toEqual(alone);
  });

  test("a session gives what a call gives, when asked several times at once, too", async () => {
    const session = rec.session();
    const answers = [];
    const histories: string[][] = [];
    for (const id of ["item-3", "item-8", "item-3", "item-40", "item-5", "item-6", "item-7", "item-9"]) {
      session.observe(id);
      histories.push(session.history);
      answers.push(session.recommend({ k: 5 }));
    }
    const expected = await Promise.all(histories.map((history) => rec.recommend(history, { k: 5 })));
    const found = await Promise.all(answers);
    expect(found.map((f) => f.items.map((i) => i.itemId))).toEqual(expected.map((f) => f.items.map((i) => i.itemId)));
  });

  test("a named catalogue narrows, an unknown name is refused", async () => {
    rec.addCatalogue("few", ["item-1", "item-2", "nobody"]);
    const { items } = await rec.recommend([], { within: "few" });
    expect(items.map((item) => item.itemId).sort()).toEqual(["item-1", "item-2"]);
    await expect(rec.recommend([], { within: "none" })).rejects.toThrow(ConfigError);
  });

  test("biases by segment count for every item of it", async () => {
    const segments = { "item-1": "a", "item-2": "a", "item-3": "b" };
    const control = rec.control({ bias: { a: 50 }, segments });
    const { items } = await rec.recommend([], { k: 2, control });
    expect(items.map((item) => item.itemId).sort()).toEqual(["item-1", "item-2"]);
  });

  test.each([
    ["a history that is text", () => rec.recommend("item-1" as unknown as string[])],
    ["a history of numbers", () => rec.recommend([1] as unknown as string[])],
    ["half an item", () => rec.recommend([], { k: 1.5 })],
    ["within and control together", () => rec.recommend([], { within: rec.trie, control: rec.control({}) })],
    ["an item to explain that there is not", () => rec.explain([], "nobody")],
  ])("%s is refused", async (_, call) => {
    await expect(call()).rejects.toThrow(ConfigError);
  });
});

test("files that are not used are not asked for", async () => {
  const asked: string[] = [];
  const rec = await Recommender.load(source("plain", asked), { split: true });
  await rec.session(["item-1"]).recommend();
  expect(asked.sort()).toEqual([
    "encoder.onnx",
    "manifest.json",
    "model.safetensors",
    "search.onnx",
    "trie.safetensors",
  ]);
  await rec.close();
  await expect(rec.recommend([])).rejects.toThrow(ConfigError);
});

test("a swap to a bundle that is refused leaves the one before", async () => {
  const live = new LiveRecommender(await Recommender.load(source("plain")));
  const before = await live.recommend(["item-1"]);
  await expect(live.swap(source("no such bundle"))).rejects.toThrow(BundleError);
  expect(await live.recommend(["item-1"])).toEqual(before);
  await live.close();
  await expect(live.recommend([])).rejects.toThrow(ConfigError);
});
