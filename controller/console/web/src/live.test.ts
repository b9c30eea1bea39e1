import { afterEach, expect, test, vi } from "vitest";
import { type Objects, type State, follow } from "./live";
import type { Meta } from "./kinds";

const object = (name: string, resourceVersion: string) => ({ metadata: { namespace: "a", name, resourceVersion } });
const line = (type: string, what: unknown) => `${JSON.stringify({ type, object: what })}\n`;
const listed = (version: string, ...items: Meta[]) =>
  new Response(JSON.stringify({ metadata: { resourceVersion: version }, items }));
const refused = (status: number, message: string) => new Response(JSON.stringify({ message }), { status });

afterEach(() => {
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

/** Follows against a server that gives these answers and then says that the session has ended. */
async function followed(answers: Response[]) {
  vi.useFakeTimers();
  const asked: string[] = [];
  const states: State[] = [];
  let last: Objects<Meta> = new Map();
  vi.stubGlobal("fetch", async (path: string) => {
    asked.push(path.replace("/console/api/", ""));
    return answers.shift() ?? refused(401, "log in first");
  });
  const loggedOut = vi.fn();
  const end = follow<Meta>(
    "virtualmachines", "", new AbortController().signal,
    (objects) => (last = objects), (state) => states.push(state), loggedOut,
  );
  await vi.runAllTimersAsync();
  await end;
  expect(loggedOut).toHaveBeenCalledOnce();
  return { asked, states, names: [...last.keys()] };
}

test("a stream that ends goes on from the last version, without a new list", async () => {
  const { asked, names } = await followed([
    listed("5", object("one", "3")),
    new Response(line("ADDED", object("two", "6")) + line("BOOKMARK", { metadata: { resourceVersion: "9" } })),
    new Response(line("DELETED", object("one", "10"))),
  ]);
  expect(asked).toEqual([
    "list/virtualmachines", "watch/virtualmachines/5", "watch/virtualmachines/9", "watch/virtualmachines/10",
  ]);
  expect(names).toEqual(["a/two"]);
});

test("a version that is too old is listed anew", async () => {
  for (const tooOld of [new Response(line("ERROR", { code: 410 })), refused(410, "too old")]) {
    const { asked, names } = await followed([listed("5", object("one", "3")), tooOld, listed("20", object("new", "19"))]);
    expect(asked).toEqual([
      "list/virtualmachines", "watch/virtualmachines/5", "list/virtualmachines", "watch/virtualmachines/20",
    ]);
    expect(names).toEqual(["a/new"]);
  }
});

test("a list that may not be read is refused, not lost", async () => {
  const { states } = await followed([refused(403, "virtualmachines is forbidden")]);
  expect(states.at(-1)).toEqual({ fresh: false, error: "virtualmachines is forbidden", refused: true });
});

test("a lost server is said, and the objects stay", async () => {
  const { states, names } = await followed([listed("5", object("one", "3")), refused(502, "the API server could not be reached")]);
  expect(states.at(-1)).toEqual({ fresh: false, error: "the API server could not be reached", refused: false });
  expect(names).toEqual(["a/one"]);
});
