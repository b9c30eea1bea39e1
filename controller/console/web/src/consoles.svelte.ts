/** The consoles that are open. They live beside the pages, so that going elsewhere ends no session. */

import type { StreamKind } from "./server";

export type Open = { key: string; namespace: string; name: string; kind: StreamKind };

export const consoles = $state<{ open: Open[] }>({ open: [] });

export const consoleKey = (kind: StreamKind, namespace: string, name: string) => `${kind}/${namespace}/${name}`;

export function openConsole(kind: StreamKind, namespace: string, name: string): void {
  const key = consoleKey(kind, namespace, name);
  if (!consoles.open.some((one) => one.key === key)) consoles.open.push({ key, namespace, name, kind });
}

export function closeConsole(key: string): void {
  consoles.open = consoles.open.filter((one) => one.key !== key);
}
