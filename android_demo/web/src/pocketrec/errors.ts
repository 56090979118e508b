/** Every error this runtime raises on purpose. Each message says what is wrong, where, and what to do. */

export class PocketRecError extends Error {
  override name = "PocketRecError";
}

/** A bundle is damaged, incomplete, of another version, or its parts do not belong together. */
export class BundleError extends PocketRecError {
  override name = "BundleError";
}

/** Semantic-ID rows or a trie file break the trie's rules. */
export class TrieError extends PocketRecError {
  override name = "TrieError";
}

/** A saved session is damaged, too large, or of another version. */
export class SessionError extends PocketRecError {
  override name = "SessionError";
}

/** An argument is of the wrong type or value. */
export class ConfigError extends PocketRecError {
  override name = "ConfigError";
}

/** What an error of a library says, in one short line. */
export function oneLine(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.split(/\s+/).filter(Boolean).join(" ").slice(0, 300);
}
