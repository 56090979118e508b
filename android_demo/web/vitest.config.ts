import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["tests/**/*.test.ts"],
    testTimeout: 60_000,
    fileParallelism: false, // tests of the browser measure nothing, but need what processors there are
  },
});
