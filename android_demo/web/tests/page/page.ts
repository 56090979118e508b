/** The runtime on a page's own thread; tests and measurements call `window.page`. */

import { Recommender, httpSource } from "../../src/pocketrec/index";
import { type Outcome, runVectors } from "../vectors";

export interface TestPage {
  vectors(): Promise<Outcome[]>;
  open(split: boolean): Promise<number>;
  recommend(histories: string[][], k: number): Promise<{ ids: string[][]; ms: number[] }>;
  observeAll(history: string[]): Promise<number[]>;
}

let recommender: Recommender | null = null;

async function timed<T>(action: () => Promise<T>): Promise<[T, number]> {
  const begun = performance.now();
  return [await action(), performance.now() - begun];
}

const page: TestPage = {
  vectors: () =>
    runVectors(async (path) => {
      const response = await fetch(new URL(`/vectors/${path}`, location.href));
      return response.ok ? new Uint8Array(await response.arrayBuffer()) : null;
    }),

  /** Open the bundle of the server; returns milliseconds. */
  async open(split) {
    await recommender?.close();
    const source = httpSource(new URL("/bundle/", location.href).href);
    const [opened, ms] = await timed(() => Recommender.load(source, { split }));
    recommender = opened;
    return ms;
  },

  /** The recommended ids for each history, and the milliseconds of each call. */
  async recommend(histories, k) {
    const out: { ids: string[][]; ms: number[] } = { ids: [], ms: [] };
    for (const history of histories) {
      const [found, ms] = await timed(() => (recommender as Recommender).recommend(history, { k }));
      out.ids.push(found.items.map((item) => item.itemId));
      out.ms.push(ms);
    }
    return out;
  },

  /** Observe a history in a session, item by item; returns the milliseconds of each recommendation. */
  async observeAll(history) {
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
