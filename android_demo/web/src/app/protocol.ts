/** The messages between the page and the worker. */

export interface Facts {
  readonly items: number;
  readonly parameters: number;
  readonly bytes: number; // total size of the files that the page uses
  readonly quantization: string;
  readonly beam: number;
  readonly maxHistory: number;
  readonly levels: number;
  readonly codes: number;
  readonly unusedParts: readonly string[]; // of the bundle, that the page does not use
  readonly files: readonly { readonly name: string; readonly bytes: number }[];
}

/** The catalogue by row. sids: semantic IDs, `levels` codes a row. */
export interface Catalogue {
  readonly ids: readonly string[];
  readonly titles: readonly string[];
  readonly sids: Int32Array;
}

export interface Opened {
  readonly facts: Facts;
  readonly catalogue: Catalogue;
  readonly history: readonly string[];
  readonly notice: string | null; // why the saved session was not resumed
}

/** What the page wants recommended. */
export interface PageQuery {
  readonly history: readonly string[];
  readonly k: number;
  readonly excludeSeen: boolean;
  readonly filter: string;
}

export interface Suggested {
  readonly id: string;
  readonly score: number;
}

export interface PageResult {
  readonly items: readonly Suggested[];
  readonly ms: number;
  readonly candidates: number; // number of items that match the filter
  readonly saved: string; // the session, to be saved by the page
}

/** For each recommended item, the history item that raised its score most; null if none did. */
export type Reasons = ReadonlyMap<string, string | null>;

/** The calls of the worker, by name. */
export interface Calls {
  open(base: string, saved: string | null): Promise<Opened>;
  recommend(query: PageQuery): Promise<PageResult>;
  /** Ids that the model recommends for an empty history. */
  popular(): Promise<readonly string[]>;
  /** Null if another query arrived in the meantime. */
  explain(history: readonly string[], items: readonly string[]): Promise<Reasons | null>;
}

export interface WorkerRequest {
  readonly id: number;
  readonly name: keyof Calls;
  readonly args: readonly unknown[];
}

export type WorkerResponse =
  | { readonly id: number; readonly value: unknown }
  | { readonly id: number; readonly error: { readonly name: string; readonly message: string } };
