/** Nodes as the console shows them: what they have, what machines take of it, and whether they can take more. Pure. */

import type { Instance, Node } from "../kinds";
import { quantity } from "./quantity";
import { size } from "./rows";

export type NodeRow = {
  name: string;
  status: "Ready" | "Cordoned" | "Not ready" | "Lost" | "Fenced";
  reason: string;
  /** Whether guests run at full speed; unknown where the node's daemon has not said. */
  kvm: "yes" | "no" | "unknown";
  /** Whether the daemon takes machines. */
  takes: boolean;
  heartbeat: string;
  cpu: Share;
  memory: Share;
  machines: Instance[];
  node: Node;
};
/** `all`: what pods may have; `taken`: what running machines have. */
export type Share = { all: number; taken: number };

const FINAL = ["Succeeded", "Failed"];

export function nodeRows(nodes: Iterable<Node>, instances: Iterable<Instance>): NodeRow[] {
  const on = new Map<string, Instance[]>();
  for (const instance of instances) {
    const name = instance.status?.nodeName;
    if (!name || FINAL.includes(instance.status?.phase ?? "")) continue;
    on.set(name, [...(on.get(name) ?? []), instance]);
  }
  return [...nodes].map((node) => row(node, on.get(node.metadata?.name ?? "") ?? [])).sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
}

function row(node: Node, machines: Instance[]): NodeRow {
  const labels = node.metadata?.labels ?? {};
  const ready = node.status?.conditions?.find((one) => one.type === "Ready");
  const fenced = node.metadata?.annotations?.["catamaran.dev/fenced-by"];
  const taken = machines.map((one) => size({} as never, one));
  const sum = (numbers: number[]) => numbers.reduce((all, one) => all + (Number.isFinite(one) ? one : 0), 0);
  const has = node.status?.allocatable ?? node.status?.capacity ?? {};
  return {
    name: node.metadata?.name ?? "",
    ...state(node, ready, fenced),
    kvm: labels["catamaran.dev/kvm"] === "true" ? "yes" : labels["catamaran.dev/kvm"] === "false" ? "no" : "unknown",
    takes: labels["kubevirt.io/schedulable"] === "true",
    heartbeat: node.metadata?.annotations?.["kubevirt.io/heartbeat"] ?? "",
    cpu: { all: quantity(has.cpu), taken: sum(taken.map((one) => one.cores)) },
    memory: { all: quantity(has.memory), taken: sum(taken.map((one) => one.memory)) },
    machines,
    node,
  };
}

function state(node: Node, ready: { status: string; message?: string; reason?: string } | undefined, fenced: string | undefined): Pick<NodeRow, "status" | "reason"> {
  const reason = ready?.message ?? ready?.reason ?? "";
  if (ready?.status !== "True") {
    if (fenced) return { status: "Fenced", reason: `Its power was cut and proved off by host ${fenced}: its machines may start elsewhere.` };
    if (ready?.status === "False") return { status: "Not ready", reason };
    return { status: "Lost", reason: reason || "Nothing is heard from it." };
  }
  return node.spec?.unschedulable ? { status: "Cordoned", reason: "It takes no new machines." } : { status: "Ready", reason: "" };
}
