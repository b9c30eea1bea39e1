/** The demo's cluster: objects by kind, with versions and watchers, as an API server has them. */

import type { Meta } from "../kinds";
import { key } from "../pure/rows";
import type { Change, Kind, List } from "../server";
import { claim, event, host, instance, machine, named, node, pod, sized, type Plan } from "./objects";
import type { Instance, Machine } from "../kinds";

type Watcher = { kind: Kind; namespace: string; tell: (change: Change<Meta>) => void };

export class World {
  #objects = new Map<Kind, Map<string, Meta>>();
  #version = 1000;
  #watchers = new Set<Watcher>();

  all<T extends Meta>(kind: Kind): Map<string, T> {
    const of = this.#objects.get(kind) ?? new Map<string, Meta>();
    this.#objects.set(kind, of);
    return of as Map<string, T>;
  }

  list<T extends Meta>(kind: Kind, namespace: string): List<T> {
    const items = [...this.all<T>(kind).values()].filter((one) => namespace === "" || one.metadata?.namespace === namespace);
    return { metadata: { resourceVersion: String(this.#version) }, items: structuredClone(items) };
  }

  put<T extends Meta>(kind: Kind, object: T): T {
    const of = this.all(kind);
    const type = of.has(key(object)) ? "MODIFIED" : "ADDED";
    const next = structuredClone(object);
    next.metadata = { ...next.metadata, resourceVersion: String((this.#version += 1)) };
    of.set(key(next), next);
    this.#tell(kind, { type, object: next });
    return structuredClone(next);
  }

  remove(kind: Kind, id: string): void {
    const object = this.all(kind).get(id);
    if (!object || !this.all(kind).delete(id)) return;
    this.#version += 1;
    this.#tell(kind, { type: "DELETED", object });
  }

  #tell(kind: Kind, change: Change<Meta>): void {
    for (const watcher of this.#watchers) {
      const fits = watcher.namespace === "" || change.object.metadata?.namespace === watcher.namespace;
      if (watcher.kind === kind && fits) watcher.tell(structuredClone(change));
    }
  }

  async *watch<T>(kind: Kind, namespace: string, signal: AbortSignal): AsyncGenerator<Change<T>> {
    const waiting: Change<Meta>[] = [];
    let wake = () => {};
    const watcher: Watcher = { kind, namespace, tell: (change) => (waiting.push(change), wake()) };
    this.#watchers.add(watcher);
    signal.addEventListener("abort", () => wake());
    try {
      while (!signal.aborted) {
        const next = waiting.shift();
        if (next) yield next as Change<T>;
        else await new Promise<void>((resolve) => (wake = resolve));
      }
    } finally {
      this.#watchers.delete(watcher);
    }
  }
}

const PLANS: Plan[] = [
  { namespace: "shop", name: "web-1", node: "node-1", address: "10.42.1.21", labels: { app: "web", tier: "front" }, age: 9 * 86_400 },
  { namespace: "shop", name: "web-2", node: "node-2", address: "10.42.2.21", labels: { app: "web", tier: "front" }, age: 9 * 86_400 },
  { namespace: "shop", name: "db", node: "node-1", address: "10.42.1.30", memory: "16Gi", cores: 8, labels: { app: "db", tier: "back" }, age: 30 * 86_400 },
  { namespace: "shop", name: "queue", node: "node-2", address: "10.42.2.33", memory: "4Gi", labels: { app: "queue", tier: "back" }, age: 12 * 86_400 },
  { namespace: "shop", name: "report", strategy: "Manual", memory: "8Gi", cores: 4, labels: { app: "report" }, age: 20 * 86_400 },
  { namespace: "build", name: "runner-1", node: "node-2", address: "10.42.2.40", memory: "8Gi", cores: 4, labels: { app: "runner" }, age: 3600 },
  { namespace: "build", name: "runner-2", node: "node-1", address: "10.42.1.41", memory: "8Gi", cores: 4, labels: { app: "runner" }, age: 5400 },
  { namespace: "build", name: "nightly", strategy: "Halted", memory: "32Gi", cores: 16, labels: { app: "nightly" }, age: 5 * 86_400 },
  { namespace: "lab", name: "windows", node: "node-1", address: "10.42.1.60", memory: "8Gi", cores: 4, labels: { app: "desktop" }, age: 2 * 86_400 },
  { namespace: "lab", name: "huge", memory: "512Gi", cores: 64, labels: { app: "experiment" }, age: 700 },
  { namespace: "lab", name: "crashing", strategy: "RerunOnFailure", labels: { app: "experiment" }, age: 900 },
];

/** The demo's cluster as it begins; `many` machines more fill it up. */
export function world(many: number): World {
  const world = new World();
  for (const one of [node("node-1"), node("node-2"), node("node-3", { has: false, cordoned: true, cpu: "8", memory: "32890768Ki" }),
    node("node-4", { ready: "Unknown", annotations: { "catamaran.dev/fenced-by": "metal/rack-4" }, taints: [{ key: "node.kubernetes.io/out-of-service", effect: "NoExecute" }, { key: "node.kubernetes.io/unreachable", effect: "NoExecute" }] })]) world.put("nodes", one);
  for (const name of ["shop", "build", "lab", "metal"]) world.put("namespaces", named(name));
  for (const plan of PLANS) begin(world, plan);
  for (let at = 0; at < many; at += 1) {
    begin(world, { namespace: "fleet", name: `fleet-${at}`, node: `node-${1 + (at % 2)}`, address: `10.43.${at >> 8}.${at & 255}`, labels: { app: "fleet" } });
  }
  if (many > 0) world.put("namespaces", named("fleet"));
  trouble(world);
  for (const [name, cpu, memory] of [["u1.small", 1, "2Gi"], ["u1.medium", 2, "4Gi"], ["u1.large", 4, "8Gi"]] as const) world.put("virtualmachineclusterinstancetypes", sized(name, cpu, memory));
  for (const name of ["linux", "windows.11"]) world.put("virtualmachineclusterpreferences", named(name));
  world.put("persistentvolumeclaims", claim("shop", "db-data", "Bound"));
  world.put("persistentvolumeclaims", claim("shop", "golden-debian", "Bound"));
  world.put("baremetalhosts", host("rack-1", "provisioned", { node: "node-1" }));
  world.put("baremetalhosts", host("rack-2", "provisioned", { node: "node-2" }));
  world.put("baremetalhosts", host("rack-3", "available", { on: false, since: 86_400 }));
  world.put("baremetalhosts", host("rack-4", "provisioned", { node: "node-4", on: false, annotations: { "catamaran.dev/fenced": "its BMC read Off 3 times in 9 s after the power was cut", "reboot.metal3.io/catamaran-fence": "" } }));
  world.put("baremetalhosts", host("rack-5", "provisioning", { since: 184, progress: "the deploy agent has written 41 % of the image" }));
  world.put("baremetalhosts", host("rack-6", "registering", { on: false, since: 1500, error: "the BMC at 192.0.2.106 refused the credentials of Secret rack-6-bmc: 401 Unauthorized" }));
  world.put("events", event("metal", "BareMetalHost", "rack-6", "RegistrationError", "the BMC refused the credentials", { type: "Warning", seconds: 90, count: 4 }));
  world.put("events", event("metal", "BareMetalHost", "rack-5", "ProvisioningStarted", "image debian-13.qcow2 is being written to /dev/nvme0n1", { seconds: 184 }));
  return world;
}

function begin(world: World, plan: Plan): void {
  const made = machine(plan);
  if (plan.node) {
    const run = instance(made, { node: plan.node, ...(plan.address ? { address: plan.address } : {}), age: Math.min(plan.age ?? 86_400, 86_400) });
    world.put("virtualmachineinstances", run as Meta & Instance);
    world.put("pods", pod(run));
    if (plan.namespace !== "fleet") {
      world.put("events", event(plan.namespace, "VirtualMachineInstance", plan.name, "Started", "the guest runs", { seconds: 3500 }));
      world.put("events", event(plan.namespace, "VirtualMachine", plan.name, "SuccessfulCreate", `instance ${plan.name} was made`, { seconds: 3520 }));
    }
  } else {
    made.status = { ...made.status, printableStatus: "Stopped", ready: false, created: false };
  }
  world.put("virtualmachines", made as Meta & Machine);
}

/** What is wrong in the demo, so that there is something to see. */
function trouble(world: World): void {
  const change = (id: string, with_: (machine: Machine) => void) => {
    const one = structuredClone(world.all<Machine & Meta>("virtualmachines").get(id));
    if (!one) return;
    with_(one);
    world.put("virtualmachines", one);
  };
  change("lab/huge", (one) => {
    one.status = { ...one.status, printableStatus: "ErrorUnschedulable" };
    const run = instance(one, { phase: "Scheduling", age: 640 }) as Instance & Meta;
    (run.status as { conditions: unknown[] }).conditions.push({ type: "PodScheduled", status: "False", reason: "Unschedulable", message: "0/4 nodes are available: 2 Insufficient memory, 2 node(s) were unschedulable.", lastTransitionTime: new Date(Date.now() - 600_000).toISOString() });
    world.put("virtualmachineinstances", run);
    world.put("events", event("lab", "VirtualMachineInstance", "huge", "FailedScheduling", "0/4 nodes are available: 2 Insufficient memory, 2 node(s) were unschedulable.", { type: "Warning", seconds: 30, count: 12 }));
  });
  change("lab/crashing", (one) => {
    one.status = { ...one.status, printableStatus: "CrashLoopBackOff", startFailure: { consecutiveFailCount: 4, retryAfterTimestamp: new Date(Date.now() + 95_000).toISOString() } } as never;
    world.put("events", event("lab", "VirtualMachineInstance", "crashing", "GuestPanicked", "the guest's kernel panicked: VFS: Unable to mount root fs", { type: "Warning", seconds: 45, count: 4 }));
  });
  change("shop/queue", (one) => {
    if (one.spec.template.spec) one.spec.template.spec.domain.memory = { guest: "6Gi" };
    (one.status as { conditions?: unknown[] }).conditions = [{ type: "RestartRequired", status: "True", message: "spec.template.spec.domain.memory.guest was changed", lastTransitionTime: new Date(Date.now() - 7_200_000).toISOString() }];
  });
}
