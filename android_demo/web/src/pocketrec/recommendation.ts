/** What a call gives back. */

/** One recommended item; `score` is its log-probability given the history. */
export interface Recommendation {
  readonly itemId: string;
  readonly score: number;
  readonly title: string | null;
}

/** Recommended items, best first, and the ids of the history that the catalogue lacks, each once. */
export interface Recommendations {
  readonly items: readonly Recommendation[];
  readonly unknown: readonly string[];
}
