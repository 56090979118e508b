/** The runtime inside a page, on the page's own thread; tests and measurements call what it leaves on `window`. */

import { Recommender, httpSource } from "../../src/pocketrec/index";
import { type Outcome, runVectors } from "../vectors";

export interface TestPage {
  vectors(): Promise<Outcome[]>;
  open(split: boolean): Promise<number>;
  answers(histories: string[][], k: number): Promise<{ ids: string[][]; ms: number[] }>;
  taps(history: string[]): Promise<number[]>;
}

let recommender: Recommender | null = null;

async function timed<T>(action: () => Promise<T>): Promise<[T, number]> {
  const begun = performance.now();
  return [await action(), performance.now() - begun];
}

const page: TestPage = {
  vectors: () =>
    runVectors(async (path) => {
      const answer = await fetch(new URL(`/vectors/${path}`, location.href));
      return answer.ok ? new Uint8Array(await answer.arrayBuffer()) : null;
    }),

  /** Open the bundle that is served beside the page; milliseconds. */
  async open(split) {
    await recommender?.close();
    const source = httpSource(new URL("/bundle/", location.href).href);
    const [opened, ms] = await timed(() => Recommender.load(source, { split }));
    recommender = opened;
    return ms;
  },

  /** The best ids after each history, and milliseconds of each call. */
  async answers(histories, k) {
    const out: { ids: string[][]; ms: number[] } = { ids: [], ms: [] };
    for (const history of histories) {
      const [found, ms] = await timed(() => (recommender as Recommender).recommend(history, { k }));
      out.ids.push(found.items.map((item) => item.itemId));
      out.ms.push(ms);
    }
    return out;
  },

  /** Milliseconds of each answer of a session to which a history is told item by item. */
  async taps(history) {
    const session = (recommender as Recommender).session();
    const out: number[] = [];
    for (const id of history) {
      session.observe(id);
      const [, ms] = await timed(() => session.recommend());
      out.push(ms);
    }
    return out;
  },
};

Object.assign(window, { page });
document.body.dataset.ready = "yes";
