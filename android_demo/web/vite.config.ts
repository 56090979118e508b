import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { type Plugin, defineConfig } from "vite";
import { listFiles } from "./scripts/service_worker.mjs";

const CSP = [
  "default-src 'self'",
  "script-src 'self' 'wasm-unsafe-eval'", // WebAssembly of ONNX Runtime; no eval of JavaScript
  "base-uri 'none'",
  "form-action 'none'",
].join("; ");

/** Allows requests to the page's own origin only. Only for builds: the development server needs more. */
function contentPolicy(): Plugin {
  return {
    name: "content-policy",
    apply: "build",
    transformIndexHtml: () => [
      { tag: "meta", attrs: { "http-equiv": "Content-Security-Policy", content: CSP }, injectTo: "head-prepend" },
    ],
  };
}

function serviceWorker(): Plugin {
  let folder = "";
  return {
    name: "service-worker",
    apply: "build",
    configResolved: (config) => void (folder = resolve(config.root, config.build.outDir)),
    closeBundle: () => {
      if (existsSync(resolve(folder, "sw.js"))) listFiles(folder);
    },
  };
}

export default defineConfig({
  base: "./", // the page runs under any path
  plugins: [contentPolicy(), serviceWorker()],
  worker: { format: "es" },
  build: {
    target: "es2023",
    chunkSizeWarningLimit: 2000,
    modulePreload: { polyfill: false },
    rolldownOptions: {
      input: { main: "index.html", sw: "src/sw.ts" },
      output: { entryFileNames: (chunk) => (chunk.name === "sw" ? "sw.js" : "assets/[name]-[hash].js") },
    },
  },
});
