/** ONNX Runtime Web with its WebAssembly backend only, set up for one thread. */

import * as ort from "onnxruntime-web/wasm";

ort.env.wasm.numThreads = 1;
ort.env.wasm.proxy = false;
ort.env.logLevel = "fatal";

/** Load and compile ONNX Runtime while the bundle is fetched. The empty graph is refused, after ONNX Runtime is ready. */
export async function startRuntime(): Promise<void> {
  await ort.InferenceSession.create(new Uint8Array(0)).catch(() => undefined);
}

export { ort };
