/** Live lists, shared by the pages: one watch for each kind and namespace, however many look at it. */

import { untrack } from "svelte";
import { type Objects, type State, follow } from "./live";
import type { Meta } from "./kinds";
import type { Kind } from "./server";

/** Changes are shown together, at most this often, ms. */
const TOGETHER = 100;
/** A list stays for a while after its last reader, so that a change of page does not ask anew, ms. */
const KEPT = 5_000;

/** A live list as pages see it. */
export class Live<T extends Meta> {
  objects = $state.raw<Objects<T>>(new Map());
  state = $state.raw<State>({ fresh: false, error: "", refused: false });
  /** Whether there was an answer: until then an empty list means nothing. */
  known = $state(false);
}

type Followed = { id: string; live: Live<Meta>; readers: number; end: AbortController; forget?: ReturnType<typeof setTimeout> };

const all = new Map<string, Followed>();
let loggedOut = () => {};

/** What is done when the server says that the session has ended. */
export function onLoggedOut(then: () => void): void {
  loggedOut = then;
}

/** All lists that are followed, for the connection's banner. */
export const followed = $state<{ lists: Live<Meta>[] }>({ lists: [] });

function begin(kind: Kind, namespace: string, id: string): Followed {
  const live = new Live<Meta>();
  const end = new AbortController();
  let next: Objects<Meta> | undefined;
  const show = () => {
    if (next) live.objects = next;
    next = undefined;
    live.known = true;
  };
  void follow<Meta>(
    kind,
    namespace,
    end.signal,
    (objects) => {
      if (next === undefined) setTimeout(show, live.known ? TOGETHER : 0);
      next = objects;
    },
    (state) => (live.state = state),
    () => loggedOut(),
  );
  const made = { id, live, readers: 0, end };
  all.set(id, made);
  followed.lists = [...all.values()].map((one) => one.live);
  return made;
}

/** Follows for as long as a component lives. The list may have more than the namespace; `null` follows nothing. */
export function following<T extends Meta>(kind: Kind, namespace: () => string | null) {
  let live = $state.raw(new Live<T>());
  $effect(() => {
    const wanted = namespace();
    if (wanted === null) return;
    const [one, leave] = untrack(() => read<T>(kind, wanted));
    live = one;
    return leave;
  });
  return {
    get objects(): Objects<T> {
      return live.objects;
    },
    get error(): string {
      return live.state.error;
    },
    get known(): boolean {
      return live.known;
    },
  };
}

/** Reads a live list; call the second value when it is no longer looked at. */
function read<T extends Meta>(kind: Kind, namespace: string): [Live<T>, () => void] {
  const id = `${kind}/${namespace}`;
  // A list of all namespaces has those of one, where it may be read: browsers open few connections to a server.
  const whole = all.get(`${kind}/`);
  const one = all.get(id) ?? (whole?.live.known ? whole : undefined) ?? begin(kind, namespace, id);
  one.readers += 1;
  clearTimeout(one.forget);
  const leave = () => {
    one.readers -= 1;
    if (one.readers > 0) return;
    one.forget = setTimeout(() => {
      one.end.abort();
      all.delete(one.id);
      followed.lists = [...all.values()].map((other) => other.live);
    }, KEPT);
  };
  return [one.live as unknown as Live<T>, leave];
}

/** Ends all lists: nobody is logged in. */
export function endAll(): void {
  for (const one of all.values()) {
    clearTimeout(one.forget);
    one.end.abort();
  }
  all.clear();
  followed.lists = [];
}
