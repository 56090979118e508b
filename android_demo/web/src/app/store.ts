/** The page's state and its changes. Views read the state and are notified of every change. */

import { PageCatalogue } from "./catalogue";
import { type Settings, saveSession, saveSettings, savedSession, savedSettings } from "./keep";
import type { Calls, Facts, Reasons, Suggested } from "./protocol";

export const SHOWN = 10;
const LATENCIES = 60;
const IDLE_MS = 150; // after this time without a tap, explanations are computed

export type Tab = "foryou" | "browse" | "device";
export type Offline = "no" | "saving" | "ready" | "unavailable";

export interface Notice {
  readonly text: string;
  readonly action: "undo" | "update" | null;
}

export interface State {
  readonly refused: string | null; // why the bundle cannot be used
  readonly catalogue: PageCatalogue | null;
  readonly facts: Facts | null;
  readonly find: ((query: string) => string[]) | null; // null: not made yet
  readonly history: readonly string[];
  readonly canUndo: boolean;
  readonly settings: Settings;
  readonly items: readonly Suggested[] | null; // null: not recommended yet
  readonly reasons: Reasons | null;
  readonly candidates: number;
  readonly latencies: readonly number[]; // milliseconds, the newest last
  readonly openMs: number;
  readonly offline: Offline;
  readonly connected: boolean;
  readonly tab: Tab;
  readonly notice: Notice | null;
}

export class Store {
  private current: State = {
    refused: null,
    catalogue: null,
    facts: null,
    find: null,
    history: [],
    canUndo: false,
    settings: savedSettings(),
    items: null,
    reasons: null,
    candidates: 0,
    latencies: [],
    openMs: 0,
    offline: "no",
    connected: navigator.onLine,
    tab: "foryou",
    notice: null,
  };
  private readonly listeners: ((state: State) => void)[] = [];
  private past: (readonly string[])[] = [];
  private queries = 0; // how many were sent; the newest one counts
  private idle = 0;

  constructor(private readonly calls: Calls) {}

  get state(): State {
    return this.current;
  }

  onChange(listener: (state: State) => void): void {
    this.listeners.push(listener);
    listener(this.current);
  }

  set(change: Partial<State>): void {
    this.current = { ...this.current, ...change };
    for (const listener of this.listeners) listener(this.current);
  }

  async open(base: string): Promise<void> {
    const start = performance.now();
    try {
      const opened = await this.calls.open(base, savedSession());
      const notice: Notice | null = opened.notice ? { text: opened.notice, action: null } : null;
      const openMs = performance.now() - start;
      const { facts, history } = opened;
      this.set({ refused: null, catalogue: new PageCatalogue(opened), facts, history, notice, openMs });
    } catch (error) {
      this.set({ refused: (error as Error).message });
      return;
    }
    await this.recommend();
    if (this.current.refused !== null) return;
    const popular = await this.calls.popular(); // after the first recommendations, so that it does not delay them
    this.set({ find: this.current.catalogue?.finder(popular) ?? null });
  }

  add(id: string): void {
    this.change([...this.current.history, id], `Added “${this.title(id)}”`);
  }

  remove(id: string): void {
    this.change(this.without(id), `Removed “${this.title(id)}”`);
  }

  /** Add an item to the history or remove it, without a notice: the tapped row shows the change and can undo it. */
  toggle(id: string): void {
    const { history } = this.current;
    this.change(history.includes(id) ? this.without(id) : [...history, id], null);
  }

  private without(id: string): readonly string[] {
    return this.current.history.filter((other) => other !== id);
  }

  clear(): void {
    this.change([], "History cleared");
  }

  undo(): void {
    const before = this.past.pop();
    if (!before) return;
    this.set({ history: before, canUndo: this.past.length > 0, notice: null });
    void this.recommend();
  }

  adjust(settings: Partial<Settings>): void {
    this.set({ settings: { ...this.current.settings, ...settings } });
    saveSettings(this.current.settings);
    if ("excludeSeen" in settings || "filter" in settings) void this.recommend();
  }

  private title(id: string): string {
    return this.current.catalogue?.title(id) ?? id;
  }

  private change(history: readonly string[], text: string | null): void {
    this.past.push(this.current.history);
    this.set({ history, canUndo: true, notice: text === null ? null : { text, action: "undo" } });
    void this.recommend();
  }

  private async recommend(): Promise<void> {
    const query = ++this.queries;
    clearTimeout(this.idle);
    const { history, settings, facts } = this.current;
    if (!facts) return;
    const { excludeSeen, filter } = settings;
    try {
      const result = await this.calls.recommend({ history, k: SHOWN, excludeSeen, filter });
      if (query !== this.queries) return;
      saveSession(result.saved);
      const latencies = [...this.current.latencies, result.ms].slice(-LATENCIES);
      this.set({ items: result.items, candidates: result.candidates, latencies, reasons: null });
    } catch (error) {
      this.set({ refused: (error as Error).message });
      return;
    }
    this.idle = window.setTimeout(() => void this.explain(query), IDLE_MS);
  }

  private async explain(query: number): Promise<void> {
    const { history, items } = this.current;
    if (!history.length || !items?.length) return;
    const reasons = await this.calls.explain(
      history,
      items.map((item) => item.id),
    );
    if (query === this.queries && reasons) this.set({ reasons });
  }
}
