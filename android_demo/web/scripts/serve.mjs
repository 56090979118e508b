/**
 * A small static server for previews and tests, on this machine only: compression and ETags.
 *
 *     node scripts/serve.mjs FOLDER [PORT]
 */

import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".mjs": "text/javascript",
  ".css": "text/css",
  ".json": "application/json",
  ".webmanifest": "application/manifest+json",
  ".svg": "image/svg+xml",
  ".png": "image/png",
  ".wasm": "application/wasm",
};
const PACKED = /\.(html|js|mjs|css|json|webmanifest|svg|wasm|onnx|safetensors)$/;

/**
 * Serve folders by URL path: `{"/": "dist", "/vectors/": "…"}`; the longest matching path wins. `counts.sent` counts the
 * bytes of response bodies.
 *
 * @param {Record<string, string>} roots
 * @param {number} port 0: any free port
 */
export async function serve(roots, port = 0) {
  const made = new Map();
  const counts = { sent: 0 };
  const places = Object.entries(roots).sort(([a], [b]) => b.length - a.length);

  const load = async (path) => {
    const [at, folder] = places.find(([place]) => path.startsWith(place)) ?? [];
    if (at === undefined) return null;
    const name = normalize(path.slice(at.length) || "index.html");
    if (name.startsWith("..")) return null;
    const file = join(folder, name.endsWith("/") ? `${name}index.html` : name);
    const content = await readFile(file).catch(() => null);
    if (!content) return null;
    const etag = `"${createHash("sha256").update(content).digest("hex").slice(0, 32)}"`;
    if (made.get(file)?.etag !== etag) {
      const body = PACKED.test(file) ? gzipSync(content, { level: 9 }) : content;
      made.set(file, { etag, body, headers: headersOf(file, etag) });
    }
    return made.get(file);
  };
  const server = createServer(async (request, response) => {
    const path = decodeURIComponent(new URL(request.url ?? "/", "http://localhost").pathname);
    const found = await load(path);
    if (!found) return response.writeHead(404).end();
    if (request.headers["if-none-match"] === found.etag) return response.writeHead(304, { etag: found.etag }).end();
    counts.sent += found.body.length;
    response.writeHead(200, { ...found.headers, "content-length": found.body.length });
    response.end(request.method === "HEAD" ? undefined : found.body);
  });
  await new Promise((resolve) => server.listen(port, "127.0.0.1", () => resolve(undefined)));
  const { port: bound } = /** @type {import("node:net").AddressInfo} */ (server.address());
  const close = () => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(() => resolve(undefined)));
  };
  return { url: `http://localhost:${bound}/`, counts, close };
}

function headersOf(file, etag) {
  return {
    "content-type": TYPES[extname(file)] ?? "application/octet-stream",
    "cache-control": "no-cache", // revalidate each time; the service worker has its own cache
    etag,
    ...(PACKED.test(file) ? { "content-encoding": "gzip" } : {}),
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { url } = await serve({ "/": process.argv[2] ?? "dist" }, Number(process.argv[3] ?? 4173));
  console.log(url);
}
