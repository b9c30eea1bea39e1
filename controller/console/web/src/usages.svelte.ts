/** What the machines on the page used. Each is asked for again while it is drawn and somebody looks; one after the other. */

import { SvelteMap } from "svelte/reactivity";
import type { Usage } from "./pure/usage";
import { server } from "./server";

/** The node has a new number every 10 s; a list with many rows asks less often, ms. */
export const [OFTEN, SELDOM] = [10_000, 30_000];

const known = new SvelteMap<string, Usage>();
const waiting: (() => Promise<void>)[] = [];
let busy = false;

/** What is known of a machine. */
export function usageOf(namespace: string, name: string): Usage | undefined {
  return known.get(`${namespace}/${name}`);
}

function next() {
  const ask = busy ? undefined : waiting.shift();
  if (!ask) return;
  busy = true;
  void ask().finally(() => {
    busy = false;
    next();
  });
}

/** Asks for a machine every so often until the returned function is called: for `$effect`. */
export function looking(namespace: string, name: string, every: number, failed: (failure: unknown) => void = () => {}): () => void {
  const key = `${namespace}/${name}`;
  let over = false;
  let queued = false;
  async function ask() {
    queued = false;
    if (over) return;
    try {
      known.set(key, (await server.told(namespace, name, "usage")) as Usage);
      failed("");
    } catch (failure) {
      // A curve that has stopped must not look like one that goes on.
      known.delete(key);
      failed(failure);
    }
  }
  function enqueue() {
    if (document.hidden || queued) return;
    queued = true;
    waiting.push(ask);
    next();
  }
  enqueue();
  const again = setInterval(enqueue, every);
  return () => {
    over = true;
    clearInterval(again);
  };
}
