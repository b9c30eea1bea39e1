/** Adds to the file of licences what Vite does not see: what is inside noVNC, data that a plugin reads, and where the source is. */

import { appendFileSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import type { Plugin } from "vite";

export const FILE = "licences.txt";

/** The folder of an installed package. */
function folder(name: string): string {
  const modules = createRequire(import.meta.url).resolve.paths(name) ?? [];
  const found = modules.map((path) => join(path, name)).find((path) => {
    try {
      return readFileSync(join(path, "package.json")).length > 0;
    } catch {
      return false;
    }
  });
  if (found === undefined) throw new Error(`${name}: is not installed; npm ci does it`);
  return found;
}

function more(): string {
  const [novnc, keymaps] = [folder("@novnc/novnc"), folder("@kubevirt-ui-ext/vnc-keymaps")];
  const { version } = JSON.parse(readFileSync(join(novnc, "package.json"), "utf8")) as { version: string };
  return [
    "",
    "## Source of noVNC",
    `noVNC ${version} is in these files unchanged, as its package has it. Its source is at https://github.com/novnc/noVNC/tree/v${version}, under the`,
    "Mozilla Public License 2.0, https://www.mozilla.org/MPL/2.0/.",
    "",
    "## pako, inside noVNC (MIT, Zlib)",
    readFileSync(join(novnc, "vendor/pako/LICENSE"), "utf8"),
    "## @kubevirt-ui-ext/vnc-keymaps, its tables of keyboards (MIT)",
    readFileSync(join(keymaps, "LICENSE"), "utf8"),
  ].join("\n");
}

export function licences(): Plugin {
  return {
    name: "licences",
    apply: "build",
    writeBundle: { order: "post", handler: ({ dir }) => appendFileSync(join(dir ?? dirname("."), FILE), more()) },
  };
}
