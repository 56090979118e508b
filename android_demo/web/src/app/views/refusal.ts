/** Replaces all views if the bundle cannot be used, and says in one sentence why and what to do. */

import { h } from "../dom";
import type { Store } from "../store";

export function refusal(store: Store): HTMLElement {
  const why = h("p", { class: "message" });
  const retry = h("button", { type: "button", class: "solid", onclick: () => location.reload() }, "Try again");
  const view = h(
    "section",
    { class: "refusal", role: "alert", hidden: true },
    h("h2", {}, "The model cannot be used"),
    why,
    retry,
  );
  store.onChange(({ refused }) => {
    view.hidden = refused === null;
    if (refused !== null) why.textContent = refused;
  });
  return view;
}
