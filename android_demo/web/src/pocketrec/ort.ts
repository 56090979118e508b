/** ONNX Runtime Web, its processor backend alone, set up for one thread. */

import * as ort from "onnxruntime-web/wasm";

ort.env.wasm.numThreads = 1;
ort.env.wasm.proxy = false;
ort.env.logLevel = "fatal";

/** Fetch and compile ONNX Runtime while a bundle is on its way: no graph at all is refused, but not before that. */
export async function startRuntime(): Promise<void> {
  await ort.InferenceSession.create(new Uint8Array(0)).catch(() => undefined);
}

export { ort };
