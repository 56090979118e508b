/** Runs the shared vectors (tests/vectors of the repository) with this runtime; the same code in Node and in a browser. */

import {
  type ControlOptions,
  LiveRecommender,
  type Query,
  type Recommendations,
  Recommender,
  type Source,
} from "../src/pocketrec/index";

interface Item {
  id: string;
  score: number;
  title: string | null;
}
interface Filters {
  allow?: string[] | null;
  deny?: string[];
  bias?: Record<string, number> | null;
  min_score?: number | null;
  diversity?: number;
}
interface Call {
  history: string[];
  k?: number;
  exclude_seen?: boolean;
  beam?: number | null;
  within?: string[] | null;
  control?: Filters | null;
}
interface Named {
  name: string;
  bundle: string;
}
interface Refusal {
  error: string;
  says: string;
}
interface Step {
  observe?: string;
  known?: boolean;
  recommend?: { k: number; exclude_seen: boolean; within: string[] | null };
  expected?: Item[];
}

export interface Vectors {
  tolerance: number;
  answers: (Named & Call & { expected: Item[]; unknown: string[] })[];
  sessions: (Named & { steps: Step[]; saved: string })[];
  swaps: {
    name: string;
    from: string;
    to: string;
    history: string[];
    before: Item[];
    after: Item[];
    unknown_before: string[];
    unknown_after: string[];
  }[];
  explanations: (Named & { history: string[]; item: string; score: number; history_changes: [string, number][] })[];
  refusals: (Named & Refusal & { overlay: string | null; remove: string[] })[];
  session_refusals: (Named & Refusal & { saved: string })[];
  argument_refusals: (Named & Refusal & { call: Call })[];
}

/** Reads a file of tests/vectors; null if it does not exist. */
export type ReadVector = (path: string) => Promise<Uint8Array | null>;

export interface Outcome {
  kind: string;
  name: string;
  failure: string | null;
}

export async function runVectors(read: ReadVector): Promise<Outcome[]> {
  const text = new TextDecoder().decode((await read("vectors.json")) ?? new Uint8Array());
  const runner = new Runner(JSON.parse(text) as Vectors, read);
  return runner.run();
}

class Runner {
  private readonly opened = new Map<string, Promise<Recommender>>();
  private readonly outcomes: Outcome[] = [];

  constructor(
    private readonly vectors: Vectors,
    private readonly read: ReadVector,
  ) {}

  async run(): Promise<Outcome[]> {
    const v = this.vectors;
    for (const split of [false, true]) {
      const how = split ? " (split)" : "";
      await this.each("answers" + how, v.answers, (c) => this.answer(c, split));
      await this.each("sessions" + how, v.sessions, (c) => this.session(c, split));
      await this.each("swaps" + how, v.swaps, (c) => this.swap(c, split));
    }
    await this.each("explanations", v.explanations, (c) => this.explanation(c));
    await this.each("refusals", v.refusals, (c) => this.refusal(c));
    await this.each("session_refusals", v.session_refusals, async (c) => {
      const recommender = await this.open(c.bundle);
      await refused(c, () => recommender.restoreSession(new TextEncoder().encode(c.saved)));
    });
    await this.each("argument_refusals", v.argument_refusals, async (c) => {
      const recommender = await this.open(c.bundle);
      await refused(c, async () => recommend(recommender, c.call));
    });
    for (const recommender of await Promise.all(this.opened.values())) await recommender.close();
    return this.outcomes;
  }

  private async each<C extends { name: string }>(
    kind: string,
    cases: C[],
    check: (c: C) => Promise<void>,
  ): Promise<void> {
    for (const c of cases) {
      let failure: string | null = null;
      try {
        await check(c);
      } catch (error) {
        failure = String(error);
      }
      this.outcomes.push({ kind, name: c.name, failure });
    }
  }

  private source(name: string): Source {
    return (file) => this.read(`bundles/${name}/${file}`);
  }

  private open(name: string, split = false): Promise<Recommender> {
    const key = `${name} ${split}`;
    const opened = this.opened.get(key) ?? Recommender.load(this.source(name), { split });
    this.opened.set(key, opened);
    return opened;
  }

  private async answer(c: Vectors["answers"][number], split: boolean): Promise<void> {
    const found = await recommend(await this.open(c.bundle, split), c);
    this.same(found, c.expected);
    equal(found.unknown, c.unknown, "unknown");
  }

  private async session(c: Vectors["sessions"][number], split: boolean): Promise<void> {
    const recommender = await this.open(c.bundle, split);
    const session = recommender.session();
    for (const step of c.steps) {
      if (step.observe !== undefined) equal(session.observe(step.observe), step.known, step.observe);
      const call = step.recommend;
      if (!call) continue;
      const within = call.within && recommender.trie.filterIds(call.within);
      this.same(await session.recommend({ k: call.k, excludeSeen: call.exclude_seen, within }), step.expected ?? []);
    }
    equal(new TextDecoder().decode(await session.toBytes()), c.saved, "saved");
    const restored = await recommender.restoreSession(new TextEncoder().encode(c.saved));
    equal([restored.history, restored.renewed], [session.history, false], "restored");
    equal(
      (await restored.recommend()).items.map((i) => i.itemId),
      (await session.recommend()).items.map((i) => i.itemId),
      "again",
    );
  }

  private async swap(c: Vectors["swaps"][number], split: boolean): Promise<void> {
    const live = new LiveRecommender(await Recommender.load(this.source(c.from), { split }), { split });
    const session = live.session(c.history);
    for (const [expected, unknown] of [
      [c.before, c.unknown_before],
      [c.after, c.unknown_after],
    ] as const) {
      const found = await live.recommend(c.history);
      this.same(found, expected);
      this.same(await session.recommend(), expected);
      equal(found.unknown, unknown, "unknown");
      if (expected === c.before) await live.swap(this.source(c.to));
    }
    await live.close();
  }

  private async explanation(c: Vectors["explanations"][number]): Promise<void> {
    const why = await (await this.open(c.bundle)).explain(c.history, c.item);
    near(why.score, c.score, this.vectors.tolerance, "score");
    equal(
      why.history.map(([id]) => id),
      c.history_changes.map(([id]) => id),
      "history",
    );
    c.history_changes.forEach(([id, change], i) => near(why.history[i]?.[1], change, 2 * this.vectors.tolerance, id));
  }

  private async refusal(c: Vectors["refusals"][number]): Promise<void> {
    const source: Source = async (file) => {
      if (c.remove.includes(file)) return null;
      const overlaid = c.overlay === null ? null : await this.read(`${c.overlay}/${file}`);
      return overlaid ?? this.read(`bundles/${c.bundle}/${file}`);
    };
    await refused(c, async () => {
      const recommender = await Recommender.load(source);
      try {
        await recommender.recommend([]);
      } finally {
        await recommender.close();
      }
    });
  }

  private same(found: Recommendations, expected: Item[]): void {
    equal(
      found.items.map((i) => i.itemId),
      expected.map((i) => i.id),
      "ids",
    );
    equal(
      found.items.map((i) => i.title),
      expected.map((i) => i.title),
      "titles",
    );
    found.items.forEach((item, i) => near(item.score, expected[i]?.score, this.vectors.tolerance, item.itemId));
  }
}

async function recommend(recommender: Recommender, call: Call): Promise<Recommendations> {
  const within = call.within && recommender.trie.filterIds(call.within);
  const query: Query = { k: call.k ?? 10, excludeSeen: call.exclude_seen ?? true, beam: call.beam ?? null };
  if (!call.control) return recommender.recommend(call.history, { ...query, within: within ?? null });
  const { min_score: minScore, ...rest } = call.control;
  const options: ControlOptions = { ...rest, minScore: minScore ?? null, within: within ?? null };
  return recommender.recommend(call.history, { ...query, control: recommender.control(options) });
}

async function refused(c: Refusal, action: () => Promise<unknown>): Promise<void> {
  let error: unknown = null;
  try {
    await action();
  } catch (caught) {
    error = caught;
  }
  if (!(error instanceof Error)) throw new Error(`expected a ${c.error} with "${c.says}", but nothing was thrown`);
  equal(error.name, c.error, error.message);
  if (!error.message.includes(c.says)) throw new Error(`"${error.message}" does not say "${c.says}"`);
}

function equal(found: unknown, expected: unknown, what: string): void {
  const [a, b] = [JSON.stringify(found), JSON.stringify(expected)];
  if (a !== b) throw new Error(`${what}: ${a} is not ${b}`);
}

function near(found: number | undefined, expected: number | undefined, tolerance: number, what: string): void {
  if (!(Math.abs((found ?? NaN) - (expected ?? NaN)) <= tolerance))
    throw new Error(`${what}: ${found} is not ${expected}`);
}
