/**
 * The item trie: the semantic IDs of all items, as a tree. The search graph walks it, so only existing items come back.
 *
 * Nodes are numbered breadth-first: the root is 0, siblings are in order of their codes. The children of an internal node
 * v are nodes firstChild[v] to firstChild[v + 1] - 1. The leaves come last, in the order of the sorted rows. A trie is
 * immutable.
 */

import { TrieError } from "./errors";
import type { ItemTable } from "./item_table";
import { type Codes, type TrieContent, readTrieFile, refusal } from "./trie_file";
import { quote } from "./quote";

export class ItemTrie {
  readonly length: number; // items
  readonly firstChild: Int32Array; // [nInternal + 1]
  readonly codes: Codes; // [nNodes]; codes[0] = 0 stands for the root
  readonly maxBranch: readonly number[]; // the largest number of children at each depth
  readonly nInternal: number;
  readonly nNodes: number;

  /** rows: semantic IDs [n, levels], sorted. tableRows: table row of each leaf row; null: the same (whole catalogue). */
  private constructor(
    readonly rows: Codes,
    readonly levels: number,
    private readonly tableRows: Int32Array | null,
    readonly table: ItemTable,
    readonly codesPerLevel: number,
    readonly sidSpace: string,
  ) {
    this.length = rows.length / levels;
    const nodes = buildNodes(rows, levels);
    this.firstChild = nodes.firstChild;
    this.codes = nodes.codes;
    this.maxBranch = nodes.maxBranch;
    this.nInternal = nodes.firstChild.length - 1;
    this.nNodes = nodes.codes.length;
  }

  /** Read and check a trie file; a TrieError says what is wrong. */
  static load(content: Uint8Array): ItemTrie {
    const file: TrieContent = readTrieFile(content);
    try {
      return new ItemTrie(file.codes, file.levels, null, file.table, file.codesPerLevel, file.sidSpace);
    } catch (error) {
      if (error instanceof TrieError) throw refusal(`is malformed (${error.message})`);
      throw error;
    }
  }

  tableRow(leaf: number): number {
    return this.tableRows === null ? leaf : (this.tableRows[leaf] ?? -1);
  }

  /** The leaf row of each table row, -1 where the trie lacks it. */
  leavesOf(rows: Int32Array): Int32Array {
    const { tableRows, length } = this;
    if (tableRows === null) return rows.map((row) => (row < length ? row : -1));
    return rows.map((row) => {
      const leaf = lowerBound(tableRows, row);
      return tableRows[leaf] === row ? leaf : -1;
    });
  }

  /** Leaf rows of ids; ids that this trie lacks are ignored. */
  leavesOfIds(ids: readonly string[]): Int32Array {
    return this.leavesOf(this.table.find(ids)).filter((leaf) => leaf >= 0);
  }

  /** Semantic IDs of leaf rows, int32 [leaves, levels]: the history input of the graphs. */
  sids(leaves: ArrayLike<number>): Int32Array {
    const out = new Int32Array(leaves.length * this.levels);
    for (let i = 0; i < leaves.length; i++) out.set(this.sid(leaves[i] ?? 0), i * this.levels);
    return out;
  }

  sid(leaf: number): Codes {
    return this.rows.subarray(leaf * this.levels, (leaf + 1) * this.levels);
  }

  /** The sub-catalogue of the leaves whose mask is not 0. mask: uint8 [length]. It shares this trie's table. */
  filter(mask: Uint8Array): ItemTrie {
    if (mask.length !== this.length) {
      throw new TrieError(
        `the mask has ${mask.length} places, but this trie needs ${this.length}; give one per leaf row`,
      );
    }
    const leaves = Int32Array.from(mask.keys()).filter((leaf) => mask[leaf] !== 0);
    const rows = this.rows.slice(0, leaves.length * this.levels);
    leaves.forEach((leaf, i) => rows.set(this.sid(leaf), i * this.levels));
    const tableRows = leaves.map((leaf) => this.tableRow(leaf));
    return new ItemTrie(rows, this.levels, tableRows, this.table, this.codesPerLevel, this.sidSpace);
  }

  /** The sub-catalogue of the given items; ids that this trie lacks are ignored. */
  filterIds(ids: readonly string[]): ItemTrie {
    if (typeof ids === "string") throw new TrieError(`the ids are one string, ${quote(ids)}; give a list of ids`);
    const mask = new Uint8Array(this.length);
    for (const leaf of this.leavesOfIds(ids)) mask[leaf] = 1;
    return this.filter(mask);
  }
}

/** The first index of an ascending array whose number is at least `value`. */
function lowerBound(ascending: Int32Array, value: number): number {
  let [low, high] = [0, ascending.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((ascending[middle] as number) < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

interface Nodes {
  firstChild: Int32Array;
  codes: Codes;
  maxBranch: number[];
}

/** Number the nodes of sorted semantic IDs. */
function buildNodes(rows: Codes, levels: number): Nodes {
  const n = rows.length / levels;
  const Kind = rows instanceof Uint8Array ? Uint8Array : Uint16Array;
  if (n === 0) return { firstChild: Int32Array.of(1, 1), codes: new Kind(1), maxBranch: Array<number>(levels).fill(0) };
  const depths = depthsOf(rows, n, levels);
  const counts = Array<number>(levels).fill(0);
  for (let row = 0; row < n; row++) for (let l = depths[row] as number; l < levels; l++) (counts[l] as number)++;

  const nodes = counts.reduce((sum, count) => sum + count, 1);
  const firstChild = new Int32Array(nodes - n + 1);
  const codes = new Kind(nodes);
  const maxBranch: number[] = [];
  let [parent, node] = [0, 1];
  for (let level = 0; level < levels; level++) {
    const [firstParent, widest] = [parent, { children: 0 }];
    for (let row = 0; row < n; row++) {
      const depth = depths[row] as number;
      if (depth > level) continue; // the row shares this node with the one before
      if (depth < level || row === 0) {
        if (parent > firstParent)
          widest.children = Math.max(widest.children, node - (firstChild[parent - 1] as number));
        firstChild[parent++] = node;
      }
      codes[node++] = rows[row * levels + level] as number;
    }
    maxBranch.push(Math.max(widest.children, node - (firstChild[parent - 1] as number)));
  }
  firstChild[parent] = node;
  return { firstChild, codes, maxBranch };
}

/** For every row, the first level at which it differs from the row before. Rows must be sorted and distinct. */
function depthsOf(rows: Codes, n: number, levels: number): Uint8Array {
  const depths = new Uint8Array(n);
  for (let row = 1; row < n; row++) {
    const at = row * levels;
    let depth = 0;
    while (depth < levels && rows[at + depth] === rows[at - levels + depth]) depth++;
    if (depth === levels) throw new TrieError(`leaf rows ${row - 1} and ${row} have one semantic ID`);
    if ((rows[at + depth] as number) < (rows[at - levels + depth] as number)) {
      throw new TrieError("the semantic IDs are not sorted");
    }
    depths[row] = depth;
  }
  return depths;
}
