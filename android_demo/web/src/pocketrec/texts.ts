/** Strings stored in one byte array: string i is bytes[offsets[i]] to bytes[offsets[i + 1]], UTF-8. */

export interface Texts {
  readonly bytes: Uint8Array;
  readonly offsets: Uint32Array;
}

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

export function textAt(texts: Texts, row: number): string {
  return decoder.decode(texts.bytes.subarray(texts.offsets[row], texts.offsets[row + 1]));
}

/** Whether every string is valid UTF-8: the whole array is, and no string starts inside a character. */
export function checkTexts({ bytes, offsets }: Texts): boolean {
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return false;
  }
  return offsets.subarray(0, -1).every((start) => start >= bytes.length || ((bytes[start] ?? 0) & 0xc0) !== 0x80);
}
