/** The errors of this runtime. Each message says what is wrong, where, and what to do. */

export class PocketRecError extends Error {
  override name = "PocketRecError";
}

/** A bundle is damaged, incomplete, of another version, or its files do not belong together. */
export class BundleError extends PocketRecError {
  override name = "BundleError";
}

/** A trie file is invalid, or an argument does not fit a trie. */
export class TrieError extends PocketRecError {
  override name = "TrieError";
}

/** A saved session is damaged, too large, or of another version. */
export class SessionError extends PocketRecError {
  override name = "SessionError";
}

/** An argument has a wrong type or value, or a closed recommender was used. */
export class ConfigError extends PocketRecError {
  override name = "ConfigError";
}

/** The message of a library's error, as one short line. */
export function oneLine(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.split(/\s+/).filter(Boolean).join(" ").slice(0, 300);
}
