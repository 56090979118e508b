/** The history as chips, the newest first, with undo and clear. */

import { h, icon, setAttribute } from "../dom";
import type { Store } from "../store";
import { cover } from "./cover";

export function historyStrip(store: Store): HTMLElement {
  const count = h("span", { class: "faint" });
  const undo = h(
    "button",
    { type: "button", class: "round", "aria-label": "Undo", onclick: () => store.undo() },
    icon("undo"),
  );
  const clear = h("button", { type: "button", class: "text", onclick: () => store.clear() }, "Clear");
  const chips = h("ul", { class: "chips", "aria-label": "Your history, newest first" });
  const empty = h(
    "p",
    { class: "hint" },
    "Tap what you like. The list below follows at once, and nothing leaves this device.",
  );
  const head = h(
    "div",
    { class: "row" },
    h("h2", {}, "Your history"),
    count,
    h("span", { class: "fill" }),
    undo,
    clear,
  );

  let drawn: readonly string[] | null = null;
  store.onChange(({ history, catalogue, facts, canUndo }) => {
    setAttribute(undo, "disabled", !canUndo);
    setAttribute(clear, "disabled", history.length === 0);
    if (!catalogue || !facts || history === drawn) return;
    const grown = drawn !== null && history.length > drawn.length;
    drawn = history;
    empty.hidden = history.length > 0;
    chips.hidden = history.length === 0;
    const over = history.length > facts.maxHistory ? `, the last ${facts.maxHistory} count` : "";
    count.textContent = history.length ? `${history.length}${over}` : "";
    const unique = [...new Set([...history].reverse())];
    chips.replaceChildren(...unique.map((id) => chip(store, id, catalogue.title(id), cover(catalogue, id))));
    if (grown) chips.scrollTo({ left: 0 });
  });
  return h("section", { class: "history" }, head, chips, empty);
}

function chip(store: Store, id: string, title: string, picture: HTMLElement): HTMLElement {
  const remove = h(
    "button",
    { type: "button", class: "chip", "aria-label": `Remove ${title}`, title, onclick: () => store.remove(id) },
    picture,
    h("span", { class: "name" }, title),
    icon("close"),
  );
  return h("li", {}, remove);
}
