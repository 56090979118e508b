/** Limits of the trie file's format. */

export const TRIE_FILE = "trie.safetensors";
export const MAX_FILE_BYTES = 2 ** 31;
export const MAX_LEVELS = 8;
export const MAX_CODES = 1 << 16; // codes are uint16 at most
export const MAX_ITEMS = 2 ** 24;
export const MAX_ID_BYTES = 1024;
export const MAX_TITLE_BYTES = (1 << 16) - 1;
