/** The recommendations, the filters, and the reason for each item. */

import type { PageCatalogue } from "../catalogue";
import { h, icon } from "../dom";
import type { Suggested } from "../protocol";
import type { State, Store } from "../store";
import { cover } from "./cover";
import { historyStrip } from "./history";
import { moveSmoothly } from "./motion";

export function forYou(store: Store): HTMLElement {
  const list = h("ol", { class: "cards", "aria-label": "Recommendations, best first" });
  const speed = h("span", { class: "badge" });
  const none = h("p", { class: "hint", role: "status" });
  const heading = h("h2", {}, "For you");
  const head = h("div", { class: "row" }, heading, h("span", { class: "fill" }), speed);
  const view = h(
    "section",
    { class: "view", "aria-label": "For you" },
    historyStrip(store),
    filters(store),
    head,
    list,
    none,
  );
  list.append(...Array.from({ length: 6 }, () => h("li", { class: "card ghost", "aria-hidden": "true" })));

  let drawn: State["items"] = null;
  const cards = new Map<string, HTMLElement>();
  store.onChange((state) => {
    const { items, catalogue, latencies, history, reasons, settings } = state;
    view.hidden = state.tab !== "foryou" || state.refused !== null;
    if (!items || !catalogue) return;
    if (items !== drawn) {
      drawn = items;
      moveSmoothly(list, () => draw(store, catalogue, items, cards, list));
      heading.textContent = history.length ? "For you" : "Good to start with";
      speed.replaceChildren(icon("bolt"), `${(latencies.at(-1) ?? 0).toFixed(1)} ms`);
      speed.title = "Time to compute this list, on this device";
      none.hidden = items.length > 0;
      none.textContent = settings.filter
        ? `No title with “${settings.filter}” is left to recommend.`
        : "Nothing is left to recommend.";
    }
    for (const [id, card] of cards) {
      const why = reasons?.get(id);
      const line = card.querySelector(".why") as HTMLElement;
      const text = why
        ? `Because of ${catalogue.title(why)}`
        : reasons
          ? "A general favourite"
          : history.length
            ? "\u2026"
            : "";
      if (line.textContent !== text) line.textContent = text;
      line.hidden = text === "";
    }
  });
  return view;
}

/** Show the cards of `items` in the list; existing cards are reused. */
function draw(
  store: Store,
  catalogue: PageCatalogue,
  items: readonly Suggested[],
  cards: Map<string, HTMLElement>,
  list: HTMLElement,
): void {
  const best = items[0]?.score ?? 0;
  const shown = new Set(items.map((item) => item.id));
  for (const id of cards.keys()) if (!shown.has(id)) cards.delete(id);
  const ordered = items.map(({ id, score }) => {
    const card = cards.get(id) ?? makeCard(store, catalogue, id);
    cards.set(id, card);
    card.style.setProperty("--share", Math.exp(score - best).toFixed(3));
    (card.querySelector(".score") as HTMLElement).textContent = score.toFixed(2).replace("-", "−");
    return card;
  });
  list.replaceChildren(...ordered);
}

function makeCard(store: Store, catalogue: PageCatalogue, id: string): HTMLElement {
  const title = catalogue.title(id);
  const text = h("span", { class: "texts" }, h("span", { class: "title" }, title), h("span", { class: "why" }));
  const score = h("span", { class: "score", title: "Log-probability that this item comes next" });
  const button = h(
    "button",
    {
      type: "button",
      class: "card",
      "data-id": id,
      "aria-label": `Add ${title} to your history`,
      onclick: () => store.add(id),
    },
    cover(catalogue, id),
    text,
    score,
    icon("plus"),
  );
  return h("li", {}, button);
}

/** The title filter, and the switch that hides items of the history. */
function filters(store: Store): HTMLElement {
  const input = h("input", {
    type: "search",
    id: "filter",
    placeholder: "Only titles with…",
    autocomplete: "off",
    spellcheck: "false",
    "aria-label": "Recommend only titles with these words",
    enterkeyhint: "done",
    oninput: () => store.adjust({ filter: input.value.trim() }),
  });
  const hits = h("span", { class: "faint hits", role: "status" });
  const seen = h("input", {
    type: "checkbox",
    id: "seen",
    role: "switch",
    onchange: () => store.adjust({ excludeSeen: seen.checked }),
  });
  input.value = store.state.settings.filter;
  store.onChange(({ settings, candidates, items }) => {
    seen.checked = settings.excludeSeen;
    hits.textContent = settings.filter && items ? `${candidates.toLocaleString("en")} match` : "";
  });
  const field = h("label", { class: "field" }, icon("filter"), input, hits);
  return h("div", { class: "narrow" }, field, h("label", { class: "switch" }, seen, h("span", {}, "Hide seen")));
}
