/** The bar at the top (name, offline state, theme) and the tabs at the bottom. */

import { type IconName, h, icon, setAttribute } from "../dom";
import type { State, Store, Tab } from "../store";

const TABS: [Tab, string, IconName][] = [
  ["foryou", "For you", "spark"],
  ["browse", "Browse", "list"],
  ["device", "On device", "chip"],
];

export function appBar(store: Store): HTMLElement {
  const status = h("span", { class: "status", role: "status" });
  const theme = h("button", { class: "round", type: "button", onclick: () => store.adjust({ theme: other() }) });
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const other = (): "light" | "dark" => (isDark(store.state, dark) ? "light" : "dark");
  const logo = h("img", { src: "./icon.svg", alt: "", width: 32, height: 32 });

  const draw = (state: State): void => {
    const [text, kind] = statusOf(state);
    if (status.textContent !== text) status.replaceChildren(h("i", { class: "dot" }), text);
    status.dataset.kind = kind;
    theme.replaceChildren(icon(other() === "light" ? "sun" : "moon"));
    setAttribute(theme, "aria-label", `Switch to the ${other()} theme`);
  };
  store.onChange(draw);
  dark.addEventListener("change", () => draw(store.state));
  return h("header", { class: "bar" }, logo, h("h1", {}, "pocketrec"), status, theme);
}

function isDark(state: State, system: MediaQueryList): boolean {
  return state.settings.theme ? state.settings.theme === "dark" : system.matches;
}

function statusOf({ refused, items, offline, connected }: State): [text: string, kind: string] {
  if (refused !== null) return ["Not available", "bad"];
  if (!items) return ["Opening…", "busy"];
  if (offline === "ready") return [connected ? "Offline ready" : "Offline", "good"];
  if (offline === "saving") return ["Saving for offline…", "busy"];
  return ["On this device", "neutral"];
}

export function tabBar(store: Store): HTMLElement {
  const buttons = TABS.map(([tab, label, name]) => {
    const button = h(
      "button",
      { type: "button", class: "tab", onclick: () => open(tab) },
      icon(name),
      h("span", {}, label),
    );
    return [tab, button] as const;
  });
  const open = (tab: Tab): void => {
    store.set({ tab });
    document.getElementById("main")?.scrollTo({ top: 0 });
  };
  store.onChange((state) => {
    for (const [tab, button] of buttons) setAttribute(button, "aria-current", tab === state.tab ? "page" : null);
  });
  return h("nav", { class: "tabs", "aria-label": "Views" }, ...buttons.map(([, button]) => button));
}
