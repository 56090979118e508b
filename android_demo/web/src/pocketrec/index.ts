/** The pocketrec runtime for browsers: open a bundle, recommend from it. */

export { Bundle, type Source, httpSource, openBundle } from "./bundle";
export { Control, type ControlOptions } from "./control";
export { BundleError, ConfigError, PocketRecError, SessionError, TrieError } from "./errors";
export type { Explanation } from "./explain";
export { LiveRecommender, LiveSession } from "./live";
export type { FileEntry, Manifest, ModelSpec } from "./manifest";
export type { Recommendation, Recommendations } from "./recommendation";
export { Recommender } from "./recommender";
export type { Query } from "./retrieval";
export { Session } from "./session";
export { ItemTrie } from "./trie";
