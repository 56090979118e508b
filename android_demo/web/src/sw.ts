/**
 * The service worker: after the first visit the whole page, with the model, is on the device.
 *
 * Files are cached by their SHA-256, so an update fetches only changed files, and two versions can be cached at once. A
 * version is installed when all its files are cached and have the hashes of the build. It replaces the version before
 * when the last page of that version is closed, or when the page sends "take over".
 */

const worker = self as unknown as ServiceWorkerGlobalScope & {
  FILES: readonly { url: string; sha256: string }[]; // filled in by the build
};
const CACHE = "pocketrec-files";
const scope = new URL("./", worker.location.href);
const hashes = new Map(worker.FILES.map(({ url, sha256 }) => [new URL(url, scope).href, sha256]));
const keyOf = (sha256: string): string => new URL(`?sha256=${sha256}`, scope).href;

worker.addEventListener("install", (event) => event.waitUntil(install()));
worker.addEventListener("activate", (event) => event.waitUntil(activate()));
worker.addEventListener("message", (event) => {
  if (event.data === "take over") void worker.skipWaiting();
});
worker.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  // No data leaves the device: requests to other origins are blocked, whichever library sends them.
  if (url.origin !== scope.origin) return event.respondWith(Response.error());
  if (event.request.method !== "GET") return;
  const page = event.request.mode === "navigate" && url.href.startsWith(scope.href);
  const sha256 = hashes.get(page ? new URL("index.html", scope).href : url.origin + url.pathname);
  if (sha256) event.respondWith(cachedOrFetched(event.request, sha256));
});

async function cachedOrFetched(request: Request, sha256: string): Promise<Response> {
  const cache = await caches.open(CACHE);
  return (await cache.match(keyOf(sha256))) ?? fetch(request);
}

async function install(): Promise<void> {
  const cache = await caches.open(CACHE);
  const have = new Set((await cache.keys()).map((request) => request.url));
  const missing = [...hashes].filter(([, sha256]) => !have.has(keyOf(sha256)));
  await Promise.all(missing.map(async ([url, sha256]) => cache.put(keyOf(sha256), await fetched(url, sha256))));
}

/** A file of this build: from the browser's cache if it holds this version, else from the server. */
async function fetched(url: string, sha256: string): Promise<Response> {
  for (const cache of ["default", "reload"] as const) {
    const response = await fetch(url, { cache });
    if (!response.ok) continue;
    const content = await response.arrayBuffer();
    if ((await hash(content)) !== sha256) continue;
    const type = response.headers.get("content-type") ?? "application/octet-stream";
    return new Response(content, { headers: { "content-type": type } });
  }
  throw new Error(`${url} does not have the SHA-256 of the build`);
}

/** SHA-256 as hex. A service worker is one script without imports, so it has its own copy of this function. */
async function hash(content: ArrayBuffer): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function activate(): Promise<void> {
  const cache = await caches.open(CACHE);
  const wanted = new Set([...hashes.values()].map(keyOf));
  for (const request of await cache.keys()) if (!wanted.has(request.url)) await cache.delete(request);
  await worker.clients.claim();
}

export {};
