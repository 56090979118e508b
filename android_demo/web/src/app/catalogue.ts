/** The catalogue as the page shows it: titles by id, the order for browsing, the look of covers. */

import type { Opened } from "./protocol";
import { TitleIndex } from "./search";

const GOLDEN = 0.618034; // code numbers have no order, so neighbouring codes get distant hues
const NUANCE = 0.2; // how far the second code may shift the hue of the first code

/** The parameters of a cover: hue in degrees (no browns), the others 0 to 1. */
export interface CoverLook {
  readonly hue: number;
  readonly turn: number;
  readonly spot: number;
  readonly letters: string;
}

export class PageCatalogue {
  private readonly rows: ReadonlyMap<string, number>;

  constructor(private readonly opened: Opened) {
    this.rows = new Map(opened.catalogue.ids.map((id, row) => [id, row]));
  }

  get size(): number {
    return this.opened.catalogue.ids.length;
  }

  /** A search over titles that returns ids, best match first; equal matches: popular items first, then by title. */
  finder(popular: readonly string[]): (query: string) => string[] {
    const { ids, titles } = this.opened.catalogue;
    const first = new Set(popular.map((id) => this.rows.get(id) ?? 0));
    const collator = new Intl.Collator(undefined, { numeric: true });
    const rest = [...ids.keys()].filter((row) => !first.has(row));
    rest.sort((a, b) => collator.compare(titles[a] ?? "", titles[b] ?? ""));
    const rank = new Int32Array(ids.length);
    [...first, ...rest].forEach((row, place) => (rank[row] = place));
    const index = new TitleIndex(titles);
    return (query) => index.find(query, rank).map((row) => ids[row] ?? "");
  }

  title(id: string): string {
    return this.opened.catalogue.titles[this.rows.get(id) ?? -1] ?? id;
  }

  /** A look derived from the item's semantic ID, so that items that are similar to the model look similar. */
  look(id: string): CoverLook {
    const { levels, codes } = this.opened.facts;
    const row = this.rows.get(id) ?? 0;
    const code = (level: number): number => (this.opened.catalogue.sids[row * levels + level] ?? 0) / codes;
    const place = (code(0) * codes * GOLDEN + code(1) * NUANCE) % 1;
    const words = this.title(id).match(/[\p{L}\p{N}]+/gu) ?? ["?"];
    const letters = words
      .slice(0, 2)
      .map((word) => [...word][0]?.toUpperCase() ?? "")
      .join("");
    return { hue: 150 + 250 * place, turn: code(1), spot: code(levels - 1), letters };
  }
}
