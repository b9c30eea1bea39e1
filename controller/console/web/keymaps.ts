/** Keyboard layouts for pasting as keystrokes, as the module `virtual:keymaps`: of the big tables of the package only which key gives which character. */

import { keyMaps, keysym2ucs, keysym_to_name } from "@kubevirt-ui-ext/vnc-keymaps";
import type { Plugin } from "vite";

const ID = "virtual:keymaps";
const BITS = { shift: 1, altgr: 2, control: 4, numlock: 8 } as const;

/** Of each layout: its name, and characters with the scan code and modifiers (1 Shift, 2 AltGr) of their key. */
export function layouts(): Record<string, { name: string; keys: Record<string, [scan: number, modifiers: number]> }> {
  const keysyms = new Map(keysym_to_name.map(([sym, name]) => [name, sym]));
  const entries = Object.entries(keyMaps).map(([layout, { description, map }]) => {
    const keys: Record<string, [number, number]> = {};
    for (const [name, scan, ...modifiers] of map) {
      const code = keysym2ucs(keysyms.get(name) ?? 0);
      const bits = modifiers.reduce((sum, modifier) => sum + BITS[modifier as keyof typeof BITS], 0);
      if (code < 0x20 || code === 0x7f || bits > 3 || scan > 0x7f) continue;
      const char = String.fromCodePoint(code);
      // The numeric pad has what the main keys have, and depends on a lock; fewer modifiers are better.
      const pad = scan === 0x37 || (scan >= 0x47 && scan <= 0x53);
      const known = keys[char];
      if (!pad && (!known || known[1] > bits)) keys[char] = [scan, bits];
    }
    return [layout, { name: description, keys }] as const;
  });
  return Object.fromEntries(entries);
}

export function keymaps(): Plugin {
  return {
    name: "keymaps",
    resolveId: (id) => (id === ID ? `\0${ID}` : null),
    load: (id) => (id === `\0${ID}` ? `export default JSON.parse(${JSON.stringify(JSON.stringify(layouts()))});` : null),
  };
}
