import { readFile } from "node:fs/promises";
import { beforeAll, describe, expect, test } from "vitest";
import { BundleError, ConfigError, LiveRecommender, Recommender, type Source } from "../../src/pocketrec/index";

const BUNDLES = new URL("../../../../tests/vectors/bundles/", import.meta.url);
const source =
  (name: string, requested: string[] = []): Source =>
  (file) => {
    requested.push(file);
    return readFile(new URL(`${name}/${file}`, BUNDLES)).catch(() => null);
  };

describe("a recommender", () => {
  let rec: Recommender;
  beforeAll(async () => void (rec = await Recommender.load(source("plain"))));

  test("a bundle with crowd and words says that they are not used, and recommends by the model alone", async () => {
    const requested: string[] = [];
    const plain = source("plain", requested);
    const withExperts: Source = async (file) => {
      const content = await plain(file);
      if (file !== "manifest.json" || content === null) return content;
      const manifest = JSON.parse(new TextDecoder().decode(content));
      for (const name of ["graph.safetensors", "words.safetensors"]) {
        manifest.files[name] = { bytes: 1, sha256: "0".repeat(64) };
      }
      return new TextEncoder().encode(JSON.stringify(manifest));
    };
    const fused = await Recommender.load(withExperts);
    expect(fused.unusedParts).toEqual(["crowd", "words"]);
    expect(rec.unusedParts).toEqual([]);
    expect(await fused.recommend(["item-1"])).toEqual(await rec.recommend(["item-1"]));
    expect(requested).not.toContain("graph.safetensors");
    await fused.close();
  });

  test("concurrent calls give the same lists as single calls", async () => {
    const histories = Array.from({ length: 8 }, (_, n) =>
      Array.from({ length: n % 6 }, (_, k) => `item-${(n * k) % 60}`),
    );
    const alone = [];
    for (const history of histories) alone.push(await rec.recommend(history));
    expect(await Promise.all(histories.map((history) => rec.recommend(history)))).toEqual(alone);
  });

  test("a session gives the same lists as stateless calls, also for concurrent calls", async () => {
    const session = rec.session();
    const results = [];
    const histories: string[][] = [];
    for (const id of ["item-3", "item-8", "item-3", "item-40", "item-5", "item-6", "item-7", "item-9"]) {
      session.observe(id);
      histories.push(session.history);
      results.push(session.recommend({ k: 5 }));
    }
    const expected = await Promise.all(histories.map((history) => rec.recommend(history, { k: 5 })));
    const found = await Promise.all(results);
    expect(found.map((f) => f.items.map((i) => i.itemId))).toEqual(expected.map((f) => f.items.map((i) => i.itemId)));
  });

  test("a named sub-catalogue limits the list; an unknown name is refused", async () => {
    rec.addCatalogue("few", ["item-1", "item-2", "nobody"]);
    const { items } = await rec.recommend([], { within: "few" });
    expect(items.map((item) => item.itemId).sort()).toEqual(["item-1", "item-2"]);
    await expect(rec.recommend([], { within: "none" })).rejects.toThrow(ConfigError);
  });

  test.each([60, 1e6, 2 ** 31, 2 ** 62, 2 ** 64, 1e300])(
    "%d as k or beam counts as the size of the catalogue",
    async (n) => {
      for (const within of [rec.trie, rec.trie.filterIds(["item-3", "item-4"])]) {
        const query = { within, excludeSeen: false };
        const all = await rec.recommend(["item-1"], { ...query, k: 60 });
        expect(await rec.recommend(["item-1"], { ...query, k: n })).toEqual(all);
        const five = await rec.recommend(["item-1"], { ...query, k: 5, beam: 60 });
        expect(await rec.recommend(["item-1"], { ...query, k: 5, beam: n })).toEqual(five);
      }
    },
  );

  test("a bias by segment counts for every item of the segment", async () => {
    const segments = { "item-1": "a", "item-2": "a", "item-3": "b" };
    const control = rec.control({ bias: { a: 50 }, segments });
    const { items } = await rec.recommend([], { k: 2, control });
    expect(items.map((item) => item.itemId).sort()).toEqual(["item-1", "item-2"]);
  });

  test.each([
    ["a history that is text", () => rec.recommend("item-1" as unknown as string[])],
    ["a history of numbers", () => rec.recommend([1] as unknown as string[])],
    ["a fraction of an item", () => rec.recommend([], { k: 1.5 })],
    ["within and control together", () => rec.recommend([], { within: rec.trie, control: rec.control({}) })],
    ["an unknown item to explain", () => rec.explain([], "nobody")],
  ])("%s is refused", async (_, call) => {
    await expect(call()).rejects.toThrow(ConfigError);
  });
});

test("unused files are not fetched", async () => {
  const requested: string[] = [];
  const rec = await Recommender.load(source("plain", requested), { split: true });
  await rec.session(["item-1"]).recommend();
  expect(requested.sort()).toEqual([
    "encoder.onnx",
    "manifest.json",
    "model.safetensors",
    "search.onnx",
    "trie.safetensors",
  ]);
  await rec.close();
  await expect(rec.recommend([])).rejects.toThrow(ConfigError);
});

test("a swap to a refused bundle keeps the current version", async () => {
  const live = new LiveRecommender(await Recommender.load(source("plain")));
  const before = await live.recommend(["item-1"]);
  await expect(live.swap(source("no such bundle"))).rejects.toThrow(BundleError);
  expect(await live.recommend(["item-1"])).toEqual(before);
  await live.close();
  await expect(live.recommend([])).rejects.toThrow(ConfigError);
});
