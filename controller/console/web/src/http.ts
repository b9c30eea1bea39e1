/** Requests to the server of the console. The session is in a cookie that no script can read. */

import { Lines } from "./pure/lines";
import { type Cause, type Change, type Server, Refusal } from "./server";

/** The sub-protocol of streams; the ticket travels as another, because URLs end up in logs. */
const PROTOCOL = "catamaran.console.v1";

async function ask(path: string, options: RequestInit = {}): Promise<Response> {
  const response = await fetch(`/console/api/${path}`, options);
  if (response.ok) return response;
  const said: unknown = await response.json().catch(() => null);
  const told = typeof said === "object" && said !== null ? said : {};
  const words = "message" in told ? String(told.message) : "";
  const causes = "causes" in told && Array.isArray(told.causes) ? (told.causes as Cause[]) : [];
  throw new Refusal(response.status, words || `the server answered with status ${response.status}`, causes);
}

async function json<T>(path: string, options: RequestInit = {}): Promise<T> {
  return (await ask(path, options)).json();
}

const send = (method: string, body?: unknown): RequestInit => (body === undefined ? { method } : { method, body: JSON.stringify(body) });

/** Path words, safe, and a query of what is not empty. */
function path(words: string[], query: Record<string, string> = {}): string {
  const pairs = Object.entries(query).filter(([, value]) => value !== "");
  const text = new URLSearchParams(pairs).toString();
  return words.map(encodeURIComponent).join("/") + (text && `?${text}`);
}

async function* changes<T>(response: Response): AsyncGenerator<Change<T>> {
  const reader = response.body?.getReader();
  const lines = new Lines();
  while (reader) {
    const { done, value } = await reader.read();
    if (done) return;
    for (const line of lines.take(value)) yield JSON.parse(line);
  }
}

const dry = (dryRun: boolean) => (dryRun ? "true" : "");

export const http: Server = {
  mode: () => json("mode"),
  async session() {
    try {
      return await json("session");
    } catch (error) {
      if (error instanceof Refusal && error.status === 401) return null;
      throw error;
    }
  },
  login: (token) => json("login", send("POST", { token })),
  async logout() {
    await ask("logout", send("POST"));
  },
  links: () => json("links"),
  rights: (namespace) => json(path(["rights"], { namespace })),
  list: (kind, namespace, signal) => json(path(["list", kind], { namespace }), signal ? { signal } : {}),
  async watch<T>(kind: string, namespace: string, version: string, signal: AbortSignal) {
    return changes<T>(await ask(path(["watch", kind, version], { namespace }), { signal }));
  },
  get: (kind, namespace, name) => json(path(["object", kind, name], { namespace })),
  create: (kind, namespace, object, dryRun) => json(path(["objects", kind], { namespace, dryRun: dry(dryRun) }), send("POST", object)),
  replace: (kind, namespace, name, object, dryRun) =>
    json(path(["object", kind, name], { namespace, dryRun: dry(dryRun) }), send("PUT", object)),
  async remove(kind, namespace, name) {
    await ask(path(["object", kind, name], { namespace }), send("DELETE"));
  },
  async act(namespace, name, verb, force) {
    await ask(path(["machines", namespace, name, verb]), send("POST", force ? { gracePeriodSeconds: 0 } : undefined));
  },
  node: (name, verb) => json(path(["nodes", name, verb]), send("POST")),
  async host(namespace, name, change) {
    await ask(path(["hosts", namespace, name]), send("PATCH", change));
  },
  hostTold: (namespace, name, what, skip) => json(path(["hosts", namespace, name, what], { skip: skip ? String(skip) : "" })),
  async told(namespace, name, what) {
    const response = await ask(path(["machines", namespace, name, what]));
    return what === "dmesg" ? response.text() : response.json();
  },
  async screenshot(namespace, name) {
    return (await ask(path(["machines", namespace, name, "screenshot"]))).blob();
  },
  async stream(namespace, name, stream, wish) {
    const asked = send("POST", { stream, ...wish });
    const { ticket, viewer } = await json<{ ticket: string; viewer: string }>(path(["machines", namespace, name, "ticket"]), asked);
    const socket = new WebSocket(new URL("/console/api/stream", location.href.replace(/^http/, "ws")), [PROTOCOL, `ticket.${ticket}`]);
    socket.binaryType = "arraybuffer";
    return Object.assign(socket, { viewer });
  },
  async hand(namespace, name, viewer, keyboard) {
    await ask(path(["machines", namespace, name, "viewers", viewer]), send("PUT", { keyboard }));
  },
  sessions: () => json("sessions"),
  async endSession(id) {
    await ask(path(["sessions", id]), send("DELETE"));
  },
};
