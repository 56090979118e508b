/** Puts the page together. */

import { startWorker } from "./client";
import { h } from "./dom";
import { keepOffline } from "./offline";
import { Store } from "./store";
import { appBar, tabBar } from "./views/bars";
import { browse } from "./views/browse";
import { device } from "./views/device";
import { forYou } from "./views/for_you";
import { noticeBar } from "./views/notice";
import { refusal } from "./views/refusal";

const store = new Store(startWorker());
const root = document.getElementById("app") as HTMLElement;
let update = (): void => undefined;
const main = h("main", { id: "main" }, forYou(store), browse(store), device(store), refusal(store));
root.append(
  appBar(store),
  main,
  noticeBar(store, () => update()),
  tabBar(store),
);

const rootStyle = document.documentElement.dataset;
store.onChange(({ settings, items, refused }) => {
  rootStyle.theme = settings.theme ?? "";
  root.dataset.state = refused !== null ? "refused" : items ? "ready" : "opening";
});

// The offline copy is made after the first recommendations, so that it does not delay them.
void store.open(new URL("./bundle/", document.baseURI).href).then(() => (update = keepOffline(store)));
