/** Where the browser is. Pages read `place` and never keep what is in the URL themselves. */

import { type Route, decoded, format, parse } from "./pure/route";

/** What a URL brought that is good once: a token, or why a log-in elsewhere failed. It is taken out of the URL at once. */
export const brought = taken();

function taken(): { token: string; error: string } {
  const [, what, words = ""] = /^#(token|login-error)=(.*)$/.exec(location.hash) ?? [];
  if (what === undefined) return { token: "", error: "" };
  history.replaceState(null, "", location.pathname + location.search);
  const text = decoded(words);
  return what === "token" ? { token: text, error: "" } : { token: "", error: text };
}

const at = $state<{ route: Route }>({ route: parse(location.hash) });
addEventListener("hashchange", () => (at.route = parse(location.hash)));

export const place = {
  get words(): string[] {
    return at.route.words;
  },
  get query(): Readonly<Record<string, string>> {
    return at.route.query;
  },
  /** The namespace that is looked at; empty: all. */
  get namespace(): string {
    return at.route.query.ns ?? "";
  },
};

/** Address of a page in the namespace that is looked at. */
export function to(words: string[], query: Record<string, string | undefined> = {}): string {
  return format(words, { ns: place.namespace, ...query });
}

export function go(words: string[], query: Record<string, string | undefined> = {}): void {
  location.hash = to(words, query);
}

/** Changes how the page is looked at. The way back leads past it, not through each letter that was typed. */
export function look(query: Record<string, string | undefined>): void {
  history.replaceState(null, "", format(place.words, { ...place.query, ...query }));
  at.route = parse(location.hash);
}
