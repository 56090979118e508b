/** A cover for an item: letters on colours from its semantic ID. */

import type { PageCatalogue } from "../catalogue";
import { h } from "../dom";

export function cover(catalogue: PageCatalogue, id: string): HTMLElement {
  const { hue, turn, spot, letters } = catalogue.look(id);
  const element = h("span", { class: "cover", "aria-hidden": "true" }, letters);
  element.style.setProperty("--hue", hue.toFixed(1));
  element.style.setProperty("--turn", `${(turn * 360).toFixed(0)}deg`);
  element.style.setProperty("--across", `${(10 + 80 * spot).toFixed(0)}%`);
  element.style.setProperty("--down", `${(15 + 70 * turn).toFixed(0)}%`);
  return element;
}
