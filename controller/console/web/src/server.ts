/** Requests to the server of the console. The session is in a cookie that no script can read. */

import { Lines } from "./lines";

export type User = { name: string; groups: string[] };
export type Verb = "start" | "stop" | "restart";
export type Kind = "virtualmachines" | "virtualmachineinstances";
export type Meta = { metadata?: { namespace?: string; name?: string; resourceVersion?: string } };
export type List<T> = { metadata: { resourceVersion: string }; items: T[] };
export type Change<T> = { type: "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" | "ERROR"; object: T };

/** The server refused, in its words. */
export class Refusal extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

async function ask(path: string, options: RequestInit = {}): Promise<Response> {
  const response = await fetch(`/console/api/${path}`, options);
  if (response.ok) return response;
  const said: unknown = await response.json().catch(() => null);
  const words =
    typeof said === "object" && said !== null && "message" in said ? String(said.message) : "";
  throw new Refusal(response.status, words || `the server answered with status ${response.status}`);
}

const scope = (namespace: string) =>
  namespace === "" ? "" : `?namespace=${encodeURIComponent(namespace)}`;

/** Who is logged in; nobody is `null`. */
export async function session(): Promise<User | null> {
  try {
    return await (await ask("session")).json();
  } catch (error) {
    if (error instanceof Refusal && error.status === 401) return null;
    throw error;
  }
}

export async function login(token: string): Promise<User> {
  const body = JSON.stringify({ token });
  return (await ask("login", { method: "POST", body })).json();
}

export async function logout(): Promise<void> {
  await ask("logout", { method: "POST" });
}

export async function act(namespace: string, name: string, verb: Verb): Promise<void> {
  const words = [namespace, name, verb].map(encodeURIComponent);
  await ask(`machines/${words.join("/")}`, { method: "POST" });
}

export async function list<T>(kind: Kind, namespace: string, signal: AbortSignal): Promise<List<T>> {
  return (await ask(`list/${kind}${scope(namespace)}`, { signal })).json();
}

/** The changes from a version on, until the server ends the stream. Resolved when the stream is open. */
export async function watch<T>(
  kind: Kind,
  namespace: string,
  version: string,
  signal: AbortSignal,
): Promise<AsyncGenerator<Change<T>>> {
  const path = `watch/${kind}/${encodeURIComponent(version)}${scope(namespace)}`;
  return changes<T>(await ask(path, { signal }));
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
