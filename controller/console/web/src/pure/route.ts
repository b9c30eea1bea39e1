/** The part of the URL behind `#`: which page, of what, and how it is looked at. Pure. */

export type Route = { words: string[]; query: Readonly<Record<string, string>> };

/** `#/vms/a/db?tab=yaml` as words and query. */
export function parse(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#?\/?/, "").split("?", 2);
  return {
    words: path.split("/").filter(Boolean).map(decoded),
    query: Object.fromEntries(new URLSearchParams(query)),
  };
}

/** As it was before it was percent-encoded; as it is, where it was not. */
export function decoded(word: string): string {
  try {
    return decodeURIComponent(word);
  } catch {
    return word;
  }
}

/** The other way round; what is empty is left out. */
export function format(words: string[], query: Record<string, string | undefined> = {}): string {
  const pairs = Object.entries(query).filter((pair): pair is [string, string] => Boolean(pair[1]));
  const text = new URLSearchParams(pairs).toString();
  return `#/${words.map(encodeURIComponent).join("/")}${text && `?${text}`}`;
}
