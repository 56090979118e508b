/**
 * A recommender that moves to a newer bundle while it is in use.
 *
 * A call in flight finishes on the version it began with; that version is closed when its last call ends. Sessions go on:
 * under the same model their state is kept as long as every read item still has its semantic ID.
 */

import type { Source } from "./bundle";
import { ConfigError } from "./errors";
import type { Recommendations } from "./recommendation";
import { Recommender } from "./recommender";
import type { Query } from "./retrieval";
import { modelId } from "./saved_session";
import type { Session } from "./session";

interface Version {
  readonly recommender: Recommender;
  calls: number; // in flight
}

export class LiveRecommender {
  private version: Version;
  private closed = false;

  constructor(
    recommender: Recommender,
    private readonly options: { split?: boolean } = {},
  ) {
    this.version = { recommender, calls: 0 };
  }

  /** Move to another bundle. It is opened first; if it is refused, the current version stays. */
  async swap(source: Source): Promise<void> {
    const next: Version = { recommender: await Recommender.load(source, this.options), calls: 0 };
    if (this.closed) return next.recommender.close();
    const old = this.version;
    this.version = next;
    if (old.calls === 0) await old.recommender.close();
  }

  /** Run an action on the current version, which stays open until the action ends. */
  async using<T>(action: (recommender: Recommender) => Promise<T>): Promise<T> {
    if (this.closed) throw new ConfigError("this recommender was closed; load it again");
    const { version } = this;
    version.calls++;
    try {
      return await action(version.recommender);
    } finally {
      version.calls--;
      if (version.calls === 0 && (this.closed || version !== this.version)) await version.recommender.close();
    }
  }

  /** As `Recommender.recommend`. */
  recommend(history: readonly string[], query: Query = {}): Promise<Recommendations> {
    return this.using((recommender) => recommender.recommend(history, query));
  }

  /** Begin a session that goes on over swaps. */
  session(history: readonly string[] = []): LiveSession {
    return new LiveSession(this, this.version.recommender.session(history), [...history]);
  }

  /** Close the current version, once its last call has ended. */
  async close(): Promise<void> {
    this.closed = true;
    if (this.version.calls === 0) await this.version.recommender.close();
  }
}

/** The growing history of one user, on the current version. */
export class LiveSession {
  constructor(
    private readonly live: LiveRecommender,
    private inner: Session,
    private readonly observed: string[],
  ) {}

  /** Add an item to the history. Resolves to false if the current catalogue lacks it. */
  observe(itemId: string): Promise<boolean> {
    return this.live.using(async (recommender) => {
      const known = (await this.on(recommender)).observe(itemId);
      this.observed.push(itemId);
      return known;
    });
  }

  /** As `Session.recommend`. */
  recommend(query: Query = {}): Promise<Recommendations> {
    return this.live.using(async (recommender) => (await this.on(recommender)).recommend(query));
  }

  /** The session on a version; after a swap it is moved there first. */
  private async on({ loaded }: Recommender): Promise<Session> {
    const before = this.inner;
    if (before.loaded !== loaded) {
      const [old, now] = await Promise.all([modelId(before.loaded.manifest), modelId(loaded.manifest)]);
      if (this.inner === before) this.inner = before.movedTo(loaded, this.observed, old === now);
    }
    return this.inner;
  }
}
