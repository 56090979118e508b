/** Registers the service worker, reports whether the page works offline, and offers new versions. */

import type { Store } from "./store";

export function keepOffline(store: Store): () => void {
  const connected = (): void => store.set({ connected: navigator.onLine });
  addEventListener("online", connected);
  addEventListener("offline", connected);
  if (!("serviceWorker" in navigator) || import.meta.env.MODE !== "production") {
    store.set({ offline: "unavailable" });
    return () => undefined;
  }
  const workers = navigator.serviceWorker;
  const first = workers.controller === null;
  if (!first) store.set({ offline: "ready" });
  let next: ServiceWorker | null = null;

  const offer = (worker: ServiceWorker): void => {
    next = worker;
    store.set({ notice: { text: "A new version is here", action: "update" } });
  };
  const follow = (worker: ServiceWorker): void => {
    worker.addEventListener("statechange", () => {
      if (worker.state === "activated") store.set({ offline: "ready" });
      if (worker.state === "installed" && workers.controller) offer(worker);
      if (worker.state === "redundant" && first) store.set({ offline: "unavailable" });
    });
  };
  const register = async (): Promise<void> => {
    if (first) store.set({ offline: "saving" });
    const registration = await workers.register("./sw.js", { updateViaCache: "none" });
    if (registration.waiting && workers.controller) offer(registration.waiting);
    if (registration.installing) follow(registration.installing);
    else if (registration.active) store.set({ offline: "ready" });
    registration.addEventListener("updatefound", () => registration.installing && follow(registration.installing));
  };
  register().catch(() => first && store.set({ offline: "unavailable" }));

  return () => {
    if (!next) return;
    workers.addEventListener("controllerchange", () => location.reload(), { once: true });
    next.postMessage("take over");
  };
}
