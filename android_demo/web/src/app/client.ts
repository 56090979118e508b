/** Starts the worker and calls it. */

import type { Calls, WorkerRequest, WorkerResponse } from "./protocol";

export function startWorker(): Calls {
  const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
  const waiting = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void }>();
  let last = 0;

  const fail = (error: Error): void => {
    for (const { reject } of waiting.values()) reject(error);
    waiting.clear();
  };
  worker.addEventListener("error", (event) => fail(new Error(event.message || "the model's thread did not start")));
  worker.addEventListener("message", ({ data }: MessageEvent<WorkerResponse>) => {
    const call = waiting.get(data.id);
    waiting.delete(data.id);
    if ("error" in data) call?.reject(Object.assign(new Error(data.error.message), { name: data.error.name }));
    else call?.resolve(data.value as never);
  });

  const call = <T>(name: keyof Calls, ...args: readonly unknown[]): Promise<T> =>
    new Promise((resolve, reject) => {
      const request: WorkerRequest = { id: ++last, name, args };
      waiting.set(request.id, { resolve, reject });
      worker.postMessage(request);
    });
  return {
    open: (base, saved) => call("open", base, saved),
    recommend: (query) => call("recommend", query),
    popular: () => call("popular"),
    explain: (history, items) => call("explain", history, items),
  };
}
