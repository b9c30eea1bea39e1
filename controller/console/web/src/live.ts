/** One kind of objects, listed once and then kept as they are by a watch. */

import type { Meta } from "./kinds";
import { key } from "./pure/rows";
import { type Change, type Kind, Refusal, server } from "./server";

export type Objects<T> = ReadonlyMap<string, T>;
/** `refused`: the server answered and said no; otherwise an error means that the connection is lost. */
export type State = { fresh: boolean; error: string; refused: boolean };

/** The longest pause between two attempts, ms. */
const PAUSE = 10_000;

/** The objects after a change. Pure. */
export function changed<T extends Meta>(objects: Objects<T>, change: Change<T>): Objects<T> {
  const next = new Map(objects);
  if (change.type === "DELETED") next.delete(key(change.object));
  else if (change.type !== "BOOKMARK") next.set(key(change.object), change.object);
  return next;
}

/** Follows until it is aborted, or the session has ended. A broken stream goes on from where it was. */
export async function follow<T extends Meta>(
  kind: Kind,
  namespace: string,
  signal: AbortSignal,
  show: (objects: Objects<T>) => void,
  tell: (state: State) => void,
  loggedOut: () => void,
): Promise<void> {
  let objects: Objects<T> = new Map();
  let version = "";
  let failures = 0;
  while (!signal.aborted) {
    try {
      if (version === "") {
        const all = await server.list<T>(kind, namespace, signal);
        objects = new Map(all.items.map((item) => [key(item), item]));
        version = all.metadata.resourceVersion;
        show(objects);
      }
      const changes = await server.watch<T>(kind, namespace, version, signal);
      tell({ fresh: true, error: "", refused: false });
      for await (const change of changes) {
        if (change.type === "ERROR") {
          // Too old, most likely: everything is listed anew.
          version = "";
          break;
        }
        failures = 0;
        version = change.object.metadata?.resourceVersion ?? version;
        if (change.type === "BOOKMARK") continue;
        objects = changed(objects, change);
        show(objects);
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Refusal && error.status === 401) return loggedOut();
      if (error instanceof Refusal && error.status === 410) version = "";
      const refused = error instanceof Refusal && error.status >= 400 && error.status < 500;
      tell({ fresh: false, error: error instanceof Error ? error.message : String(error), refused });
    }
    const pause = Math.min(500 * 2 ** failures, PAUSE);
    failures += 1;
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}
