/**
 * A recommender that goes over to a newer bundle while it is in use.
 *
 * A call in flight finishes on the version it began with, which is closed when its last call ends. Sessions go on: with
 * the same model, what it has read is kept as long as every item still has its semantic ID.
 */

import type { Source } from "./bundle";
import type { Ask } from "./control";
import { ConfigError } from "./errors";
import { type Recommendations, Recommender } from "./recommender";
import { type Session, modelId } from "./session";

interface Held {
  readonly recommender: Recommender;
  calls: number;
}

export class LiveRecommender {
  private held: Held;
  private closed = false;

  constructor(
    recommender: Recommender,
    private readonly options: { split?: boolean } = {},
  ) {
    this.held = { recommender, calls: 0 };
  }

  /** Go over to another bundle; it is opened first, and if it is refused the version before stays. */
  async swap(source: Source): Promise<void> {
    const fresh: Held = { recommender: await Recommender.load(source, this.options), calls: 0 };
    if (this.closed) return fresh.recommender.close();
    const old = this.held;
    this.held = fresh;
    if (old.calls === 0) await old.recommender.close();
  }

  /** Do something with the current version, which stays open meanwhile. */
  async using<T>(action: (recommender: Recommender) => Promise<T>): Promise<T> {
    if (this.closed) throw new ConfigError("this recommender was closed; load it again");
    const { held } = this;
    held.calls++;
    try {
      return await action(held.recommender);
    } finally {
      held.calls--;
      if (held.calls === 0 && (this.closed || held !== this.held)) await held.recommender.close();
    }
  }

  recommend(history: readonly string[], ask: Ask = {}): Promise<Recommendations> {
    return this.using((recommender) => recommender.recommend(history, ask));
  }

  /** Begin a session that goes on over swaps. */
  session(history: readonly string[] = []): LiveSession {
    return new LiveSession(this, this.held.recommender.session(history), [...history]);
  }

  async close(): Promise<void> {
    this.closed = true;
    if (this.held.calls === 0) await this.held.recommender.close();
  }
}

/** One user's history that grows, on whatever version is current. */
export class LiveSession {
  constructor(
    private readonly live: LiveRecommender,
    private inner: Session,
    private readonly observed: string[],
  ) {}

  /** Add an item to the history; tell whether the current catalogue has it. */
  observe(itemId: string): Promise<boolean> {
    return this.live.using(async (recommender) => {
      const known = (await this.on(recommender)).observe(itemId);
      this.observed.push(itemId);
      return known;
    });
  }

  recommend(ask: Ask = {}): Promise<Recommendations> {
    return this.live.using(async (recommender) => (await this.on(recommender)).recommend(ask));
  }

  /** The session on a version; after a swap, brought over to it. */
  private async on(recommender: Recommender): Promise<Session> {
    const before = this.inner;
    if (before.recommender !== recommender) {
      const [old, now] = await Promise.all([modelId(before.recommender.manifest), modelId(recommender.manifest)]);
      if (this.inner === before) this.inner = before.movedTo(recommender, this.observed, old === now);
    }
    return this.inner;
  }
}
