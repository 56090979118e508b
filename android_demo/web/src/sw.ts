/**
 * The service worker: the whole page, model and all, lies on the device after the first visit.
 *
 * Files are kept by their SHA-256, so that an update fetches what has changed and nothing else, and two versions can lie
 * side by side. A version is installed when every file of it is here and is what the build made; until then, and until
 * the last page of the version before is closed or asks for it, that one goes on.
 */

const worker = self as unknown as ServiceWorkerGlobalScope & {
  FILES: readonly { url: string; sha256: string }[]; // written here by the build
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
  // Nothing that is tapped here leaves the device, whatever a library would like to send.
  if (url.origin !== scope.origin) return event.respondWith(Response.error());
  if (event.request.method !== "GET") return;
  const page = event.request.mode === "navigate" && url.href.startsWith(scope.href);
  const sha256 = hashes.get(page ? new URL("index.html", scope).href : url.origin + url.pathname);
  if (sha256) event.respondWith(answer(event.request, sha256));
});

async function answer(request: Request, sha256: string): Promise<Response> {
  const cache = await caches.open(CACHE);
  return (await cache.match(keyOf(sha256))) ?? fetch(request);
}

async function install(): Promise<void> {
  const cache = await caches.open(CACHE);
  const have = new Set((await cache.keys()).map((request) => request.url));
  const missing = [...hashes].filter(([, sha256]) => !have.has(keyOf(sha256)));
  await Promise.all(missing.map(async ([url, sha256]) => cache.put(keyOf(sha256), await fetched(url, sha256))));
}

/** What the page has just loaded comes out of the browser's own cache; if that is of another build, from the server. */
async function fetched(url: string, sha256: string): Promise<Response> {
  for (const cache of ["default", "reload"] as const) {
    const answer = await fetch(url, { cache });
    if (!answer.ok) continue;
    const content = await answer.arrayBuffer();
    if ((await hash(content)) !== sha256) continue;
    const type = answer.headers.get("content-type") ?? "application/octet-stream";
    return new Response(content, { headers: { "content-type": type } });
  }
  throw new Error(`${url} is not what the build made`);
}

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
