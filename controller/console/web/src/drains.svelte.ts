/** Nodes that are being drained. It goes on while other pages are looked at, and ends with the window. */

import { SvelteMap } from "svelte/reactivity";
import { words } from "./said.svelte";
import { server } from "./server";

/** `left`: machines that are still there; unknown before the first answer. */
export type Drain = { of: number; left: number | undefined; refused: { pod: string; message: string }[]; error: string; stage: "draining" | "done" | "stopped" };

/** Pause between two rounds of evictions, ms. */
const AGAIN = 5000;
export const drains = new SvelteMap<string, Drain>();

/** Asks again until no machine is left. */
export async function drain(name: string, of: number): Promise<void> {
  drains.set(name, { of, left: undefined, refused: [], error: "", stage: "draining" });
  while (drains.get(name)?.stage === "draining") {
    try {
      const { left, refused } = await server.node(name, "drain");
      if (drains.get(name)?.stage !== "draining") return;
      const done = left === 0;
      drains.set(name, { of: Math.max(of, left), left, refused, error: "", stage: done ? "done" : "draining" });
      if (done) return;
    } catch (failure) {
      const error = words(failure);
      drains.set(name, { of, left: undefined, refused: [], error, stage: "stopped" });
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, AGAIN));
  }
}

export function stopDrain(name: string): void {
  const one = drains.get(name);
  if (one) drains.set(name, { ...one, stage: "stopped" });
}
