/** What the caller may do, by namespace, as the server says it. */

import { SvelteMap } from "svelte/reactivity";
import { type Rights, server } from "./server";
import { allows } from "./pure/verbs";

/** How long an answer counts, ms. */
const COUNTS = 10_000;
const known = new SvelteMap<string, Rights>();
const asked = new Map<string, number>();

function ask(namespace: string): void {
  if (Date.now() - (asked.get(namespace) ?? 0) < COUNTS) return;
  asked.set(namespace, Date.now());
  server.rights(namespace).then(
    (rights) => {
      if (JSON.stringify(known.get(namespace)) !== JSON.stringify(rights)) known.set(namespace, rights);
    },
    // Nothing is known then, and nothing forbidden here: the server refuses by itself.
    () => known.delete(namespace),
  );
}

/** The rights in a namespace; empty: everywhere. Not known at first. */
export function rights(namespace: string): Rights | undefined {
  queueMicrotask(() => ask(namespace));
  return known.get(namespace);
}

/** Rights in a namespace, where those everywhere do not say yes to everything already. */
export function rightsOf(namespace: string): Rights | undefined {
  const everywhere = rights("");
  const whole = ["start", "stop", "restart", "pause", "unpause", "softreboot", "reset"];
  if (!everywhere || (whole.every((verb) => allows(everywhere, "machines", verb)) && allows(everywhere, "virtualmachines", "delete"))) return everywhere;
  return rights(namespace) ?? everywhere;
}

export function forgetRights(): void {
  known.clear();
  asked.clear();
}
