/** What the page asks the worker, and what it answers. */

export interface Facts {
  readonly items: number;
  readonly parameters: number;
  readonly bytes: number; // of the files that the page uses
  readonly quantization: string;
  readonly beam: number;
  readonly maxHistory: number;
  readonly levels: number;
  readonly codes: number;
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
  readonly notice: string | null; // why the saved history was not taken up
}

export interface Question {
  readonly history: readonly string[];
  readonly k: number;
  readonly excludeSeen: boolean;
  readonly filter: string;
}

export interface Suggested {
  readonly id: string;
  readonly score: number;
}

export interface Answered {
  readonly items: readonly Suggested[];
  readonly ms: number;
  readonly candidates: number; // items that the filter lets through
  readonly saved: string; // the session, for keeping
}

/** For each item, the one of the history that helped it most; null where none did. */
export type Reasons = ReadonlyMap<string, string | null>;

/** The calls of the worker, by name. */
export interface Calls {
  open(base: string, saved: string | null): Promise<Opened>;
  recommend(question: Question): Promise<Answered>;
  /** Ids of what the model recommends to somebody it knows nothing of. */
  popular(): Promise<readonly string[]>;
  /** Comes to nothing if another question arrives meanwhile. */
  explain(history: readonly string[], items: readonly string[]): Promise<Reasons | null>;
}

export interface Request {
  readonly id: number;
  readonly name: keyof Calls;
  readonly args: readonly unknown[];
}

export type Reply =
  | { readonly id: number; readonly value: unknown }
  | { readonly id: number; readonly error: { readonly name: string; readonly message: string } };
