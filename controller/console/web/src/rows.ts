/** From machines and their instances to the rows of the list. Pure. */

import type {
  V1VirtualMachine,
  V1VirtualMachineInstance,
} from "@kubevirt-ui-ext/kubevirt-api/kubevirt";

export type Row = {
  key: string;
  namespace: string;
  name: string;
  status: string;
  node: string;
  addresses: string[];
  created: string;
};

/** What a machine and its instance are found by. */
export function key(object: {
  metadata?: { namespace?: string; name?: string };
}): string {
  return `${object.metadata?.namespace ?? ""}/${object.metadata?.name ?? ""}`;
}

/** One row for each machine, by namespace and name. */
export function rows(
  machines: Iterable<V1VirtualMachine>,
  instances: ReadonlyMap<string, V1VirtualMachineInstance>,
): Row[] {
  return [...machines]
    .map((machine) => row(machine, instances.get(key(machine))))
    .sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
}

function row(
  machine: V1VirtualMachine,
  instance: V1VirtualMachineInstance | undefined,
): Row {
  const addresses = (instance?.status?.interfaces ?? []).flatMap((nic) =>
    nic.ipAddresses?.length ? nic.ipAddresses : nic.ipAddress ? [nic.ipAddress] : [],
  );
  return {
    key: key(machine),
    namespace: machine.metadata?.namespace ?? "",
    name: machine.metadata?.name ?? "",
    status: machine.status?.printableStatus ?? "Unknown",
    node: instance?.status?.nodeName ?? "",
    addresses: [...new Set(addresses)],
    created: machine.metadata?.creationTimestamp ?? "",
  };
}

/** The rows in which every word of the filter is found somewhere. */
export function filtered(all: Row[], filter: string): Row[] {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  return all.filter((row) => {
    const text = [row.namespace, row.name, row.status, row.node, ...row.addresses]
      .join("\n")
      .toLowerCase();
    return words.every((word) => text.includes(word));
  });
}

/** Time since a moment, as kubectl shows it, in its largest unit. */
export function age(created: string, now: number): string {
  const seconds = Math.floor((now - Date.parse(created)) / 1000);
  if (Number.isNaN(seconds)) return "";
  if (seconds < 120) return `${Math.max(seconds, 0)}s`;
  if (seconds < 2 * 3600) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 2 * 86400) return `${Math.floor(seconds / 3600)}h`;
  return `${Math.floor(seconds / 86400)}d`;
}
