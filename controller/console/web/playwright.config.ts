import { defineConfig } from "@playwright/test";

/** Browser tests on the demo's invented cluster: no server but the one of the files. `npm run build` goes before. */
export default defineConfig({
  testDir: "e2e",
  outputDir: "e2e/results",
  // A browser beside builds is slow: a failure is told late, and no success takes longer.
  timeout: 240_000,
  expect: { timeout: 45_000 },
  workers: 1,
  reporter: "list",
  use: {
    baseURL: "http://127.0.0.1:4179/console/",
    launchOptions: { executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] },
    trace: "off",
    viewport: { width: 1280, height: 800 },
  },
  webServer: { command: "npx vite preview --host 127.0.0.1 --port 4179 --strictPort", url: "http://127.0.0.1:4179/console/", reuseExistingServer: false },
});
