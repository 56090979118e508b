/** The model and its files on this device, and the latency. */

import { h, icon } from "../dom";
import type { State, Store } from "../store";

export function device(store: Store): HTMLElement {
  const facts = h("dl", { class: "facts" });
  const alone = h("p", { class: "faint", hidden: true });
  const chart = h("div", { class: "chart" });
  const files = h("ul", { class: "files" });
  const promise = h(
    "p",
    { class: "promise" },
    icon("lock"),
    h("span", {}, "Nothing you tap leaves this device. The model, the catalogue and your history are all here."),
  );
  const view = h(
    "section",
    { class: "view", "aria-label": "On device", hidden: true },
    promise,
    facts,
    alone,
    h("h2", {}, "Latency"),
    chart,
    h("h2", {}, "Bundle"),
    files,
    h(
      "p",
      { class: "faint" },
      "Every file was checked against the size and the SHA-256 in the manifest before it was used. Covers are drawn from semantic IDs: items that are similar to the model look similar.",
    ),
  );
  store.onChange((state) => {
    view.hidden = state.tab !== "device" || state.refused !== null;
    if (view.hidden || !state.facts) return;
    facts.replaceChildren(
      ...factsOf(state).map(([name, value]) => h("div", {}, h("dd", {}, value), h("dt", {}, name))),
    );
    const { unusedParts } = state.facts;
    alone.hidden = unusedParts.length === 0;
    alone.textContent = `This page recommends by the model alone; it does not use the bundle's ${unusedParts.join(" and ")} yet.`;
    chart.replaceChildren(...latencyChart(state.latencies));
    files.replaceChildren(
      ...state.facts.files.map((file) =>
        h("li", {}, icon("check"), h("span", {}, file.name), h("span", { class: "faint" }, size(file.bytes))),
      ),
    );
  });
  return view;
}

function factsOf({ facts, latencies, openMs, offline }: State): [string, string][] {
  if (!facts) return [];
  return [
    ["model and catalogue", size(facts.bytes)],
    ["items", facts.items.toLocaleString("en")],
    ["parameters", facts.parameters.toLocaleString("en")],
    ["weights", facts.quantization === "none" ? "float32" : facts.quantization],
    ["median latency", `${median(latencies).toFixed(1)} ms`],
    ["opened in", `${Math.round(openMs)} ms`],
    ["semantic ID", `${facts.levels} × ${facts.codes}`],
    ["without network", offline === "ready" ? "ready" : offline === "saving" ? "saving…" : "not yet"],
  ];
}

/** A bar for each of the last calls. */
function latencyChart(latencies: readonly number[]): HTMLElement[] {
  const slowest = Math.max(...latencies, 0);
  const scale = Math.max(slowest, 1);
  const bars = latencies.map((ms) => {
    const bar = h("i", { title: `${ms.toFixed(1)} ms` });
    bar.style.setProperty("--height", (ms / scale).toFixed(3));
    return bar;
  });
  const calls = latencies.length === 1 ? "The last call" : `The last ${latencies.length} calls`;
  const label = `${calls}: median ${median(latencies).toFixed(1)} ms, slowest ${slowest.toFixed(1)} ms`;
  return [h("div", { class: "bars", role: "img", "aria-label": label }, ...bars), h("p", { class: "faint" }, label)];
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? 0;
}

function size(bytes: number): string {
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
