/**
 * The engine: ONNX Runtime Web runs the bundle's graphs, either `recommender.onnx` in one call or encoder and search in
 * two.
 *
 * The beam search is inside the graphs. One thread is used, so a page needs no cross-origin isolation. Each graph is
 * opened on first use.
 */

import type { Bundle } from "./bundle";
import { BundleError, oneLine } from "./errors";
import { checkGraph } from "./onnx_check";
import { type ModelSpec, TOKENS_KIND } from "./manifest";
import { ort } from "./ort";
import { quote } from "./quote";
import type { ItemTrie } from "./trie";
import { type Found, NOTHING, validated } from "./validate";

const REMEDY = "export the bundle again";
const NO_BIAS = new Float32Array(1);

/** Inputs and outputs that a graph may have: types and number of dimensions. */
const PORTS: Record<string, [types: string[], dimensions: number]> = {
  history: [["int32"], 2],
  past: [["float32"], 5],
  hidden: [["float32"], 2],
  present: [["float32"], 5],
  first_child: [["int32"], 1],
  codes: [["uint8", "uint16"], 1],
  exclude: [["int32"], 1],
  beam: [["int64"], 1],
  bias: [["float32"], 1],
  rows: [["int32"], 1],
  scores: [["float32"], 1],
};
const ENCODED = ["hidden", "present"] as const;
const RESULTS = ["rows", "scores"] as const;

type Role = "recommender" | "encoder" | "search";
type Feed = Record<string, ort.Tensor>;

/** The state of the model after a history. It never changes, so any number of calls can continue from it. */
export interface State {
  readonly items: number; // how many items were read
  readonly hidden: ort.Tensor; // float32 [1, D]
  readonly memory: ort.Tensor; // keys and values, float32 [layers, 2, G, S, d]
}

export class Engine {
  private readonly graphs = new Map<Role, Promise<ort.InferenceSession>>();
  private readonly spec: ModelSpec;

  private constructor(
    private readonly bundle: Bundle,
    private readonly split: boolean,
  ) {
    this.spec = bundle.manifest.model;
  }

  /** Open the graphs that `search` needs. split: encoder and search in place of the recommender. */
  static async open(bundle: Bundle, split: boolean): Promise<Engine> {
    const engine = new Engine(bundle, split);
    const roles: Role[] = split ? ["encoder", "search"] : ["recommender"];
    await Promise.all(roles.map((role) => engine.graph(role)));
    return engine;
  }

  private graph(role: Role): Promise<ort.InferenceSession> {
    let graph = this.graphs.get(role);
    if (!graph) {
      graph = openGraph(this.bundle, role);
      this.graphs.set(role, graph);
    }
    return graph;
  }

  /** The best leaves after a history (semantic IDs, int32 [n, levels], oldest first), at most `beam` of them. */
  async search(history: Int32Array, trie: ItemTrie, excluded: Int32Array, beam: number): Promise<Found> {
    if (this.split) return this.searchFrom(await this.read(history), trie, excluded, beam, null);
    if (trie.length === 0) return NOTHING;
    const feed = { history: this.historyTensor(history), ...trieFeed(trie, excluded, beam) };
    const { rows, scores } = await run(await this.graph("recommender"), RESULTS, feed);
    return validated(rows, scores, trie.length, excluded, null);
  }

  /** The state after more items (semantic IDs, int32 [n, levels]); the cost is that of the new items only. */
  async read(items: Int32Array, state: State | null = null): Promise<State> {
    if (state && items.length === 0) return state;
    const { layers, kvHeads, headDim, kind, prompt } = this.spec;
    const count = state?.items ?? 0;
    const restarts = kind === TOKENS_KIND && prompt === 0; // a start token stands for an empty history
    const past =
      state && !(count === 0 && restarts)
        ? state.memory
        : new ort.Tensor("float32", new Float32Array(0), [layers, 2, kvHeads, 0, headDim]);
    const feed = { history: this.historyTensor(items), past };
    const { hidden, present } = await run(await this.graph("encoder"), ENCODED, feed);
    return { items: count + items.length / this.spec.levels, hidden, memory: present };
  }

  /** The best leaves after a state. bias: the largest bias below each node, float32 [nNodes]. */
  async searchFrom(
    state: State,
    trie: ItemTrie,
    excluded: Int32Array,
    beam: number,
    bias: Float32Array | null,
  ): Promise<Found> {
    if (trie.length === 0) return NOTHING;
    const graph = await this.graph("search");
    if (bias && !graph.inputNames.includes("bias")) {
      throw new BundleError(`this bundle's search graph is from before score biases existed; ${REMEDY}`);
    }
    const biases = bias ?? NO_BIAS;
    const known: Feed = {
      hidden: state.hidden,
      present: state.memory,
      bias: new ort.Tensor("float32", biases, [biases.length]),
    };
    const accepted = Object.entries(known).filter(([name]) => graph.inputNames.includes(name));
    const feed = { ...Object.fromEntries(accepted), ...trieFeed(trie, excluded, beam) };
    const { rows, scores } = await run(graph, RESULTS, feed);
    return validated(rows, scores, trie.length, excluded, bias && bias.subarray(trie.nInternal));
  }

  private historyTensor(sids: Int32Array): ort.Tensor {
    return new ort.Tensor("int32", sids, [sids.length / this.spec.levels, this.spec.levels]);
  }

  /** Free the graphs; no call may follow. */
  async close(): Promise<void> {
    const graphs = [...this.graphs.values()];
    this.graphs.clear();
    for (const graph of await Promise.all(graphs)) await graph.release();
  }
}

function trieFeed(trie: ItemTrie, excluded: Int32Array, beam: number): Feed {
  const { firstChild, codes } = trie;
  return {
    first_child: new ort.Tensor("int32", firstChild, [firstChild.length]),
    codes: new ort.Tensor(codes instanceof Uint8Array ? "uint8" : "uint16", codes, [codes.length]),
    exclude: new ort.Tensor("int32", excluded, [excluded.length]),
    beam: new ort.Tensor("int64", BigInt64Array.of(BigInt(beam)), [1]),
  };
}

async function openGraph(bundle: Bundle, role: Role): Promise<ort.InferenceSession> {
  const name = bundle.graph(role);
  const graph = await bundle.file(name);
  const sizes = new Map([...bundle.manifest.files].map(([file, entry]) => [file, entry.bytes]));
  let weights: Set<string>;
  try {
    weights = checkGraph(graph, sizes);
  } catch (error) {
    throw new BundleError(`${name} ${oneLine(error)}; ${REMEDY}`);
  }
  const externalData = await Promise.all([...weights].map(async (path) => ({ path, data: await bundle.file(path) })));
  const session = await openSession(name, graph, externalData);
  checkPorts(session, role, name);
  return session;
}

async function openSession(
  name: string,
  graph: Uint8Array,
  externalData: { path: string; data: Uint8Array }[],
): Promise<ort.InferenceSession> {
  try {
    return await ort.InferenceSession.create(graph, {
      executionProviders: ["wasm"],
      externalData,
      logSeverityLevel: 4, // fatal only: errors are thrown
      extra: { session: { load_model_format: "ONNX" } },
    });
  } catch (error) {
    throw new BundleError(`ONNX Runtime cannot open ${name} (${oneLine(error)}); ${REMEDY}`);
  }
}

/** Refuse a graph with an unknown input, or without a result that is needed. */
function checkPorts(graph: ort.InferenceSession, role: Role, name: string): void {
  const results: readonly string[] = role === "encoder" ? ENCODED : RESULTS;
  const given = graph.outputMetadata.filter((port) => results.includes(port.name));
  for (const port of [...graph.inputMetadata, ...given]) {
    const known = Object.hasOwn(PORTS, port.name) ? PORTS[port.name] : undefined;
    if (known && port.isTensor && known[0].includes(port.type) && port.shape.length === known[1]) continue;
    const said = port.isTensor ? `${port.type} [${port.shape.join(", ").slice(0, 60)}]` : "no tensor";
    throw new BundleError(`${name} has ${quote(port.name.slice(0, 60))} ${said}; ${REMEDY}`);
  }
  const missing = results.find((result) => !given.some((port) => port.name === result));
  if (missing) throw new BundleError(`${name} does not give ${quote(missing)}; ${REMEDY}`);
}

async function run<Name extends string>(
  graph: ort.InferenceSession,
  results: readonly Name[],
  feed: Feed,
): Promise<Record<Name, ort.Tensor>> {
  try {
    return (await graph.run(feed, results)) as Record<Name, ort.Tensor>;
  } catch (error) {
    throw new BundleError(`ONNX Runtime cannot run the bundle's graph (${oneLine(error)}); ${REMEDY}`);
  }
}
