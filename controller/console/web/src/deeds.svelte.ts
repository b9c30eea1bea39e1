/** Carries out what is done to machines: asks before something is lost, and tells what came of it. */

import type { Row } from "./pure/rows";
import { ABOUT, type Deed } from "./pure/verbs";
import { ask, say, words } from "./said.svelte";
import { type Verb, server } from "./server";

export type Result = { key: string; error: string };

/** Requests at the same time. */
const AT_ONCE = 4;

export async function one(namespace: string, name: string, deed: Deed): Promise<void> {
  if (deed === "delete") return server.remove("virtualmachines", namespace, name);
  return server.act(namespace, name, deed.replace("force-", "") as Verb, deed.startsWith("force-"));
}

export async function confirmed(deed: Deed, names: string[]): Promise<boolean> {
  const { label, consequence, danger } = ABOUT[deed];
  if (consequence === "") return true;
  const title = names.length === 1 ? `${label} ${names[0]}?` : `${label} ${names.length} machines?`;
  return ask({ title, text: consequence, items: names.length > 1 ? names : [], yes: label, danger });
}

/** One machine, with a notice of the result. */
export async function perform(row: Pick<Row, "namespace" | "name">, deed: Deed): Promise<void> {
  const name = `${row.namespace}/${row.name}`;
  if (!(await confirmed(deed, [name]))) return;
  try {
    await one(row.namespace, row.name, deed);
    say(`${name} ${ABOUT[deed].done}.`);
  } catch (failure) {
    say(`${name}: ${ABOUT[deed].label.toLowerCase()} was refused: ${words(failure)}`, true);
  }
}

/** Several machines, a result for each. */
export async function performAll(rows: Row[], deed: Deed, told: (done: Result[]) => void): Promise<void> {
  const waiting = [...rows];
  const done: Result[] = [];
  const worker = async () => {
    for (let row = waiting.shift(); row; row = waiting.shift()) {
      const error = await one(row.namespace, row.name, deed).then(() => "", words);
      done.push({ key: row.key, error });
      told([...done]);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}
