/** Title search: a title matches if it has every word of the query; case and accents do not matter. */

export function fold(text: string): string {
  return text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
}

/** The words of a query, folded. */
export function wordsOf(query: string): string[] {
  return fold(query).split(/\s+/).filter(Boolean);
}

export class TitleIndex {
  private readonly folded: readonly string[];

  constructor(titles: readonly string[]) {
    this.folded = titles.map(fold);
  }

  /** Rows of the titles that have all words, ascending. */
  matching(words: readonly string[]): number[] {
    return this.folded.flatMap((title, row) => (words.every((word) => title.includes(word)) ? [row] : []));
  }

  /** Rows of the titles that match a query, best first. rank: order of equal matches, by row. */
  find(query: string, rank: ArrayLike<number>): number[] {
    const whole = fold(query.trim());
    const words = wordsOf(query);
    const rows = this.matching(words);
    const quality = (row: number): number => {
      const title = this.folded[row] as string;
      if (!whole || title === whole) return 0;
      if (title.startsWith(whole)) return 1;
      return words.every((word) => ` ${title}`.includes(` ${word}`)) ? 2 : 3;
    };
    const qualities = new Map(rows.map((row) => [row, quality(row)]));
    return rows.sort((a, b) => (qualities.get(a) ?? 0) - (qualities.get(b) ?? 0) || (rank[a] ?? 0) - (rank[b] ?? 0));
  }
}
