import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vitest/config";
import { keymaps } from "./keymaps.ts";
import { FILE, licences } from "./licences.ts";

// The policy that the controller sends, so that the browser tests meet it too. `data:` is for pictures in the updates of a screen and for its pointer.
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

export default defineConfig({
  base: "/console/",
  plugins: [svelte(), keymaps(), licences()],
  build: {
    outDir: "../dist/site",
    emptyOutDir: true,
    target: "es2022",
    // The content security policy allows no data: URLs.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // Of all packages of which something is in the files; noVNC's needs it (MPL-2.0).
    license: { fileName: FILE },
    // Those of the consoles, which are loaded when they are opened.
    chunkSizeWarningLimit: 600,
  },
  preview: { headers: { "Content-Security-Policy": POLICY } },
  test: { include: ["src/**/*.test.ts"] },
});
