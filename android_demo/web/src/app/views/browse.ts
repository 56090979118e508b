/** The catalogue with a title search, in pages. A tap adds an item to the history, another tap removes it. */

import type { PageCatalogue } from "../catalogue";
import { h, icon, setAttribute } from "../dom";
import type { Store } from "../store";
import { cover } from "./cover";

const PAGE = 30;

export function browse(store: Store): HTMLElement {
  const input = h("input", {
    type: "search",
    id: "search",
    placeholder: "Search",
    autocomplete: "off",
    spellcheck: "false",
    "aria-label": "Search the catalogue",
    enterkeyhint: "search",
    oninput: () => search(),
  });
  const hits = h("p", { class: "faint", role: "status" });
  const list = h("ul", { class: "rows", "aria-label": "Catalogue" });
  const end = h("div", { class: "end" });
  const next = h("button", { type: "button", class: "next", onclick: () => store.set({ tab: "foryou" }) });
  const field = h("label", { class: "field" }, icon("search"), input);
  const head = h("div", { class: "sticky" }, field, hits);
  const view = h("section", { class: "view", "aria-label": "Browse", hidden: true }, head, list, end, next);

  let found: readonly string[] = [];
  let catalogue: PageCatalogue | null = null;
  const showMore = (): void => {
    const at = list.childElementCount;
    list.append(...found.slice(at, at + PAGE).map((id) => row(store, catalogue as PageCatalogue, id)));
    mark(store, list);
  };
  const search = (): void => {
    const { find } = store.state;
    if (!find) return;
    found = find(input.value);
    const count = found.length.toLocaleString("en");
    hits.textContent = input.value.trim()
      ? `${count} ${found.length === 1 ? "title" : "titles"}`
      : `${count} titles, popular ones first`;
    list.replaceChildren();
    showMore();
    document.getElementById("main")?.scrollTo({ top: 0 });
  };
  new IntersectionObserver((entries) => entries.some((e) => e.isIntersecting) && showMore(), {
    rootMargin: "600px",
  }).observe(end);

  store.onChange((state) => {
    view.hidden = state.tab !== "browse" || state.refused !== null;
    if (state.find && state.catalogue && !catalogue) {
      catalogue = state.catalogue;
      input.placeholder = `Search ${catalogue.size.toLocaleString("en")} titles`;
      search();
    }
    if (!state.catalogue || view.hidden) return;
    mark(store, list);
    const titles = (state.items ?? []).slice(0, 3).map((item) => state.catalogue?.title(item.id) ?? "");
    const ms = `${(state.latencies.at(-1) ?? 0).toFixed(1)} ms`;
    const label = h(
      "span",
      { class: "label" },
      icon("spark"),
      "Next for you",
      h("span", { class: "fill" }),
      icon("bolt"),
      ms,
    );
    next.replaceChildren(label, h("span", { class: "titles" }, titles.join("  ·  ") || "Nothing left"));
  });
  return view;
}

function row(store: Store, catalogue: PageCatalogue, id: string): HTMLElement {
  const button = h(
    "button",
    { type: "button", class: "item", "data-id": id, onclick: () => store.toggle(id) },
    cover(catalogue, id),
    h("span", { class: "title" }, catalogue.title(id)),
    icon("plus"),
    icon("check"),
  );
  return h("li", {}, button);
}

/** Mark the rows whose items are in the history. */
function mark(store: Store, list: HTMLElement): void {
  const chosen = new Set(store.state.history);
  for (const button of list.querySelectorAll<HTMLElement>(".item")) {
    setAttribute(button, "aria-pressed", String(chosen.has(button.dataset.id ?? "")));
  }
}
