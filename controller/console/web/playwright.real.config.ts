import { defineConfig } from "@playwright/test";
import { given } from "./real/given";

/** Browser tests on a console that runs, with a cluster and machines behind it: `integration/tests` starts them and tells where all of it is. */
export default defineConfig({
  testDir: "real",
  outputDir: "real/results",
  // Guests are emulated, on few processors that they share with the browser.
  timeout: 300_000,
  expect: { timeout: 90_000 },
  workers: 1,
  reporter: "list",
  use: {
    baseURL: `${given.address}/console/`,
    // Its certificate is signed by the installation's own authority.
    ignoreHTTPSErrors: true,
    launchOptions: { executablePath: given.browser, args: ["--no-sandbox", ...given.browserFlags] },
    trace: "off",
    viewport: { width: 1280, height: 800 },
  },
});
