/** A short notice with an action (undo, reload); it disappears by itself unless it offers an update. */

import { h } from "../dom";
import type { Notice, Store } from "../store";

const SHOWN_MS = 6000;

export function noticeBar(store: Store, update: () => void): HTMLElement {
  const text = h("span", {});
  const act = (): void => {
    if (store.state.notice?.action === "undo") store.undo();
    else update();
    store.set({ notice: null });
  };
  const button = h("button", { type: "button", class: "text", onclick: act });
  const bar = h("div", { class: "notice", role: "status" }, text, button);
  let shown: Notice | null = null;
  let timer = 0;
  store.onChange(({ notice }) => {
    if (notice === shown) return;
    shown = notice;
    clearTimeout(timer);
    bar.classList.toggle("open", notice !== null);
    bar.inert = notice === null;
    if (!notice) return;
    text.textContent = notice.text;
    button.textContent = notice.action === "update" ? "Reload" : "Undo";
    button.hidden = notice.action === null;
    if (notice.action !== "update") timer = window.setTimeout(() => store.set({ notice: null }), SHOWN_MS);
  });
  return bar;
}
