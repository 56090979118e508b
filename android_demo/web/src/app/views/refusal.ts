/** Stands in place of everything when the bundle cannot be used: the one sentence that says why, and what to do. */

import { h } from "../dom";
import type { Store } from "../store";

export function refusal(store: Store): HTMLElement {
  const why = h("p", { class: "message" });
  const again = h("button", { type: "button", class: "solid", onclick: () => location.reload() }, "Try again");
  const view = h(
    "section",
    { class: "refusal", role: "alert", hidden: true },
    h("h2", {}, "The bundle was refused"),
    why,
    again,
  );
  store.onChange(({ refused }) => {
    view.hidden = refused === null;
    if (refused !== null) why.textContent = refused;
  });
  return view;
}
