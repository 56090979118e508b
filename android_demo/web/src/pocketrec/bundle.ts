/**
 * A bundle: a manifest, and the files of a model and its catalogue.
 *
 * Every file is checked against the size and the SHA-256 of the manifest before it is used. Files that the manifest does
 * not list are never fetched, and neither are files that a browser does not need (the model card, graphs of other
 * engines).
 */

import { COLD_FILE, ColdItems } from "./cold_items";
import { BundleError, TrieError, oneLine } from "./errors";
import { sha256 } from "./hash";
import { type Manifest, type ModelSpec, MAX_MANIFEST_BYTES, parseManifest } from "./manifest";
import { MANIFEST_FILE, REMEDY } from "./manifest_fields";
import { quote } from "./quote";
import { ItemTrie } from "./trie";
import { TRIE_FILE } from "./trie_limits";

/** Fetches a file of the bundle; null if there is no file of that name. */
export type Source = (name: string) => Promise<Uint8Array | null>;

/** A source that fetches files below a URL, which ends with a slash. */
export function httpSource(base: string): Source {
  return async (name) => {
    const response = await fetch(base + name);
    if (response.status === 404) return null;
    if (!response.ok) throw new Error(`the server says ${response.status}`);
    return new Uint8Array(await response.arrayBuffer());
  };
}

export class Bundle {
  private readonly kept = new Map<string, Promise<Uint8Array>>();

  constructor(
    readonly manifest: Manifest,
    private readonly source: Source,
  ) {}

  /** The checked content of a file; each file is fetched once. */
  file(name: string): Promise<Uint8Array> {
    let content = this.kept.get(name);
    if (!content) {
      content = this.fetched(name);
      this.kept.set(name, content);
    }
    return content;
  }

  private async fetched(name: string): Promise<Uint8Array> {
    const entry = this.manifest.files.get(name);
    if (!entry) {
      throw new BundleError(
        `the bundle has no file ${quote(name)} (it has ${listed(this.manifest.files)}); re-export it`,
      );
    }
    const content = await read(this.source, name);
    if (content === null) throw new BundleError(`${name} is missing from the bundle; ${REMEDY}`);
    if (content.length !== entry.bytes) {
      throw new BundleError(`${name} has ${content.length} bytes, but the manifest says ${entry.bytes}; ${REMEDY}`);
    }
    if ((await sha256(content)) !== entry.sha256) {
      throw new BundleError(`${name} is not the file of the manifest (its SHA-256 differs); ${REMEDY}`);
    }
    return content;
  }

  /** Name of the graph with a role ("recommender", "encoder", "search"). */
  graph(role: string): string {
    const name = this.manifest.graphs.get(role);
    if (name === undefined) {
      throw new BundleError(
        `the bundle has no ${quote(role)} graph (it has ${listed(this.manifest.graphs)}); ` +
          "choose another engine or re-export it",
      );
    }
    return name;
  }

  /** Load the catalogue and check that it fits the model. */
  async loadTrie(): Promise<ItemTrie> {
    const content = await this.file(TRIE_FILE);
    let trie: ItemTrie;
    try {
      trie = ItemTrie.load(content);
    } catch (error) {
      throw error instanceof TrieError ? new BundleError(error.message) : error;
    }
    const { items } = this.manifest.catalogue;
    if (trie.length !== items) {
      throw new BundleError(`${TRIE_FILE} holds ${trie.length} items, but the manifest says ${items}; ${REMEDY}`);
    }
    checkFit(this.manifest.model, trie);
    return trie;
  }

  /** Load the cold items; null if the bundle has none. items: number of items in the catalogue. */
  async loadCold(items: number): Promise<ColdItems | null> {
    return this.manifest.files.has(COLD_FILE) ? ColdItems.load(await this.file(COLD_FILE), items) : null;
  }
}

/** Read and check the manifest of a bundle; its files are checked when they are used. */
export async function openBundle(source: Source): Promise<Bundle> {
  const content = await read(source, MANIFEST_FILE);
  if (content === null) {
    throw new BundleError(`the bundle's folder has no ${MANIFEST_FILE}, so it is not a bundle; give the path of one`);
  }
  return new Bundle(parseManifest(content.subarray(0, MAX_MANIFEST_BYTES + 1)), source);
}

async function read(source: Source, name: string): Promise<Uint8Array | null> {
  try {
    const content = await source(name);
    // A Uint8Array of its own: Node's Buffer, which is a Uint8Array too, has a `slice` that does not copy.
    return content && new Uint8Array(content.buffer, content.byteOffset, content.byteLength);
  } catch (error) {
    throw new BundleError(`${name} cannot be read (${oneLine(error)}); ${REMEDY}`);
  }
}

function listed(names: ReadonlyMap<string, unknown>): string {
  return [...names.keys()].sort().join(", ") || "none";
}

/** Check that a model can search a catalogue: same codebooks, and no node with more children than the graph takes. */
export function checkFit(model: ModelSpec, trie: ItemTrie): void {
  if (trie.sidSpace !== model.sidSpace) {
    throw new BundleError(
      `the trie's sid_space ${quote(trie.sidSpace)} is not the model's ${quote(model.sidSpace)}; ` +
        "re-export the model or re-publish the catalogue from the same codebooks",
    );
  }
  if (trie.levels !== model.levels || trie.codesPerLevel !== model.codes) {
    throw new BundleError(
      `the trie has ${trie.levels} levels of ${trie.codesPerLevel} codes, but the model ` +
        `${model.levels} of ${model.codes}; re-export the model or re-publish the catalogue`,
    );
  }
  trie.maxBranch.forEach((have, level) => {
    const room = model.maxBranch[level] ?? 0;
    if (have > room) {
      throw new BundleError(
        `the trie has a node with ${have} children at level ${level}, but the model's graph has room ` +
          `for ${room}; re-export the model with a larger max_branch or re-publish a smaller catalogue`,
      );
    }
  });
}
