/** What the machines on the page used. Each is asked for again while it is drawn and somebody looks. */

import { SvelteMap } from "svelte/reactivity";
import type { Usage } from "./pure/usage";
import { server } from "./server";

/** The node has a new number every 10 s; a list with many rows asks less often, ms. */
export const [OFTEN, SELDOM] = [10_000, 60_000];
/** Questions at once, and how long one may hold up the others, ms: a node that does not answer stops no other's curves. */
const [AT_ONCE, PATIENCE] = [3, 5000];

const known = new SvelteMap<string, Usage>();
const waiting: (() => Promise<void>)[] = [];
let running = 0;

/** What is known of a machine. */
export function usageOf(namespace: string, name: string): Usage | undefined {
  return known.get(`${namespace}/${name}`);
}

function next() {
  const ask = running < AT_ONCE ? waiting.shift() : undefined;
  if (!ask) return;
  running += 1;
  const patience = new Promise<void>((over) => setTimeout(over, PATIENCE));
  void Promise.race([ask(), patience]).finally(() => {
    running -= 1;
    next();
  });
}

/** Asks for a machine every so often until the returned function is called: for `$effect`. */
export function looking(namespace: string, name: string, every: number, failed: (failure: unknown) => void = () => {}): () => void {
  const key = `${namespace}/${name}`;
  let over = false;
  let queued = false;
  async function ask() {
    if (over) return;
    try {
      const usage = (await server.told(namespace, name, "usage")) as Usage;
      if (over) return;
      known.set(key, usage);
      failed("");
    } catch (failure) {
      if (over) return;
      // A curve that has stopped must not look like one that goes on.
      known.delete(key);
      failed(failure);
    } finally {
      queued = false;
    }
  }
  function enqueue() {
    if (document.hidden || queued) return;
    queued = true;
    waiting.push(ask);
    next();
  }
  function shown() {
    if (document.hidden) known.delete(key);
    else enqueue();
  }
  enqueue();
  const again = setInterval(enqueue, every);
  document.addEventListener("visibilitychange", shown);
  return () => {
    over = true;
    known.delete(key);
    clearInterval(again);
    document.removeEventListener("visibilitychange", shown);
  };
}
