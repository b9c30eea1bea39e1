/** From machines and their instances to the rows of the list. Pure. */

import type { Condition, Instance, Machine } from "../kinds";
import { quantity } from "./quantity";

export type Row = {
  key: string;
  namespace: string;
  name: string;
  status: string;
  /** Why the status is not what it should be; empty where all is well. */
  reason: string;
  node: string;
  addresses: string[];
  cores: number;
  memory: number;
  created: string;
  labels: Readonly<Record<string, string>>;
  restartRequired: boolean;
  machine: Machine;
  instance: Instance | undefined;
};

/** What an object is found by. */
export function key(object: { metadata?: { namespace?: string; name?: string } }): string {
  return `${object.metadata?.namespace ?? ""}/${object.metadata?.name ?? ""}`;
}

/** One row for each machine, by namespace and name. */
export function rows(machines: Iterable<Machine>, instances: ReadonlyMap<string, Instance>): Row[] {
  return [...machines]
    .map((machine) => row(machine, instances.get(key(machine))))
    .sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
}

/** A condition of an object with that status. */
export function condition(object: { status?: unknown } | undefined, type: string, status: string): Condition | undefined {
  const conditions = (object?.status as { conditions?: Condition[] } | undefined)?.conditions;
  return conditions?.find((one) => one.type === type && one.status === status);
}

/** Processors and bytes of memory: of the run where there is one, as it knows what an instance type gave. */
export function size(machine: Machine, instance: Instance | undefined): { cores: number; memory: number } {
  const domain = instance?.spec?.domain ?? machine.spec?.template?.spec?.domain;
  const cpu = domain?.cpu;
  const now = instance?.status?.currentCPUTopology;
  const product = (of: { cores?: number; sockets?: number; threads?: number } | undefined) =>
    (of?.cores ?? 1) * (of?.sockets ?? 1) * (of?.threads ?? 1);
  const memory = instance?.status?.memory?.guestCurrent ?? domain?.memory?.guest ?? domain?.resources?.requests?.["memory"];
  return { cores: now ? product(now) : cpu ? product(cpu) : 0, memory: quantity(memory as string | undefined) };
}

function row(machine: Machine, instance: Instance | undefined): Row {
  const addresses = (instance?.status?.interfaces ?? []).flatMap((nic) =>
    nic.ipAddresses?.length ? nic.ipAddresses : nic.ipAddress ? [nic.ipAddress] : [],
  );
  return {
    key: key(machine),
    namespace: machine.metadata?.namespace ?? "",
    name: machine.metadata?.name ?? "",
    status: machine.status?.printableStatus || "Unknown",
    reason: reason(machine, instance),
    node: instance?.status?.nodeName ?? "",
    addresses: [...new Set(addresses)],
    ...size(machine, instance),
    created: (machine.metadata?.creationTimestamp as string | undefined) ?? "",
    labels: machine.metadata?.labels ?? {},
    restartRequired: condition(machine, "RestartRequired", "True") !== undefined,
    machine,
    instance,
  };
}

/** What is in the way, in the words of the first condition that tells. */
function reason(machine: Machine, instance: Instance | undefined): string {
  const told = [
    condition(machine, "Failure", "True"),
    condition(instance, "Paused", "True"),
    condition(instance, "Synchronized", "False"),
    condition(instance, "PodScheduled", "False"),
    condition(instance, "Ready", "False"),
  ].find((one) => one?.message);
  return told?.message ?? instance?.status?.reason ?? "";
}

export type Filter = { text: string; status: string; node: string; label: string };

/** The rows that have all of it: every word somewhere, the status, the node, and each `name=value` or `name` of the labels. */
export function filtered(all: Row[], { text, status, node, label }: Filter): Row[] {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const labels = label.split(/[\s,]+/).filter(Boolean).map((one) => one.split("=", 2));
  return all.filter((row) => {
    if (status !== "" && row.status !== status) return false;
    if (node !== "" && row.node !== node) return false;
    if (!labels.every(([name = "", value]) => (value === undefined ? name in row.labels : row.labels[name] === value))) return false;
    const haystack = [row.namespace, row.name, row.status, row.node, ...row.addresses].join("\n").toLowerCase();
    return words.every((word) => haystack.includes(word));
  });
}

export type Column = "name" | "namespace" | "status" | "node" | "address" | "size" | "age";

const BY: Record<Column, (row: Row) => string | number> = {
  name: (row) => row.name,
  namespace: (row) => row.namespace,
  status: (row) => row.status,
  node: (row) => row.node,
  address: (row) => row.addresses[0] ?? "",
  size: (row) => row.memory || 0,
  // The youngest first: that is how ages grow.
  age: (row) => -Date.parse(row.created) || 0,
};
const NATURAL = new Intl.Collator("en", { numeric: true });

/** In the order of a column, downwards where a `-` is before it; equal rows stay as they are. */
export function sorted(all: Row[], order: string): Row[] {
  const down = order.startsWith("-");
  const by = BY[order.replace(/^-/, "") as Column];
  if (!by) return all;
  const compared = (a: Row, b: Row) => {
    const [left, right] = [by(a), by(b)];
    return typeof left === "number" ? left - Number(right) : NATURAL.compare(left, String(right));
  };
  return [...all].sort(down ? (a, b) => compared(b, a) : compared);
}

/** Time since a moment, as kubectl shows it, in its largest unit. */
export function age(created: string | null | undefined, now: number): string {
  const seconds = Math.floor((now - Date.parse(created ?? "")) / 1000);
  if (Number.isNaN(seconds)) return "";
  if (seconds < 120) return `${Math.max(seconds, 0)}s`;
  if (seconds < 2 * 3600) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 2 * 86400) return `${Math.floor(seconds / 3600)}h`;
  return `${Math.floor(seconds / 86400)}d`;
}
