/**
 * The item table: ids and titles by row, stored without a string per item so that large catalogues fit.
 *
 * Rows are looked up by id in a hash table. Its hash has a random seed, so nobody can prepare a catalogue whose ids all
 * collide.
 */

import { TrieError } from "./errors";
import { quote } from "./quote";
import { type Texts, textAt } from "./texts";

const encoder = new TextEncoder();

export class ItemTable {
  readonly length: number;
  private readonly seed = crypto.getRandomValues(new Uint32Array(1))[0] ?? 1;
  private slots: Int32Array | null = null; // row + 1; 0: empty slot

  constructor(
    private readonly idTexts: Texts,
    private readonly titleTexts: Texts | null,
  ) {
    this.length = idTexts.offsets.length - 1;
  }

  id(row: number): string {
    return textAt(this.idTexts, this.checked(row));
  }

  /** The title of an item, null if it has none. */
  title(row: number): string | null {
    const texts = this.titleTexts;
    return texts === null ? null : textAt(texts, this.checked(row)) || null;
  }

  private checked(row: number): number {
    if (row < 0 || row >= this.length) throw new RangeError(`there is no row ${row}`);
    return row;
  }

  /** The row of each id, -1 for an id that no item has. */
  find(ids: readonly string[]): Int32Array {
    const slots = this.index();
    return Int32Array.from(ids, (id) => {
      // A lone surrogate would be encoded as another character, and could match an id that has that.
      if (!id.isWellFormed()) return -1;
      const bytes = encoder.encode(id);
      return (slots[this.slot(slots, bytes)] ?? 0) - 1;
    });
  }

  /** Build the index for `find`; a TrieError if two items have the same id. */
  checkUnique(): void {
    this.index();
  }

  private index(): Int32Array {
    if (this.slots) return this.slots;
    const slots = new Int32Array(2 ** Math.ceil(Math.log2(2 * this.length + 2)));
    const { bytes, offsets } = this.idTexts;
    for (let row = 0; row < this.length; row++) {
      const place = this.slot(slots, bytes.subarray(offsets[row], offsets[row + 1]));
      const twin = slots[place] ?? 0;
      if (twin) {
        throw new TrieError(
          `rows ${twin - 1} and ${row} both have the item id ${quote(this.id(row))}; ids must be unique`,
        );
      }
      slots[place] = row + 1;
    }
    this.slots = slots;
    return slots;
  }

  /** The slot of an id, or the empty slot where it would go. */
  private slot(slots: Int32Array, id: Uint8Array): number {
    const mask = slots.length - 1;
    let place = hash(id, this.seed) & mask;
    for (let row = slots[place] ?? 0; row !== 0 && !this.has(row - 1, id); row = slots[place] ?? 0) {
      place = (place + 1) & mask;
    }
    return place;
  }

  private has(row: number, id: Uint8Array): boolean {
    const { bytes, offsets } = this.idTexts;
    const [start = 0, end = 0] = [offsets[row], offsets[row + 1]];
    return end - start === id.length && id.every((byte, i) => bytes[start + i] === byte);
  }
}

/** FNV-1a over the bytes, with the final mixing step of MurmurHash3. */
function hash(bytes: Uint8Array, seed: number): number {
  let h = seed;
  for (const byte of bytes) h = Math.imul(h ^ byte, 0x01000193);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
