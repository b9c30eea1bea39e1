/** A server in the browser on invented objects: for the demo, the browser tests and the pictures in the documentation. */

import type { DataImage, Host, Instance, Machine, Meta, Node, Pod } from "../kinds";
import { key } from "../pure/rows";
import { DEEDS, hindered } from "../pure/verbs";
import { type BootDevice, type Change, type HostTold, type Keyboard, type Kind, type Rights, type Server, type Session, type Verb, Refusal } from "../server";
import { log, sensors } from "./bmc";
import { instance, pod, uid } from "./objects";
import { Screen, drawn } from "./screen";
import { Serial } from "./serial";
import { used } from "./usage";
import { type World, world as begun } from "./world";

/** How the demo is begun, by words of its query: `?demo&many=2000&viewer`. */
export type Wish = { many: number; viewer: boolean; loggedOut: boolean };

/** How long things take, ms. */
const [BOOT, SHUTDOWN] = [2500, 3000];

const EVERYTHING: Rights = {
  allowed: {
    virtualmachines: ["list", "watch", "create", "update", "delete"],
    machines: ["start", "stop", "restart", "pause", "unpause", "softreboot", "reset", "console", "vnc", "screenshot", "usage", "viewers", "hand"],
    nodes: ["list", "cordon", "uncordon", "drain"],
    baremetalhosts: ["list", "create", "update", "patch", "delete"],
    dataimages: ["list", "create", "delete"],
    hosts: ["sensors", "events"],
  },
};
const VIEWER: Rights = { allowed: { virtualmachines: ["list", "watch"], machines: ["screenshot", "usage"], nodes: ["list"], baremetalhosts: ["list"], dataimages: ["list"], hosts: ["sensors", "events"] } };

const later = (run: () => void, wait: number) => void setTimeout(run, wait);

export function demo(wish: Wish): Server {
  const world = begun(wish.many);
  let user = wish.loggedOut ? null : { name: wish.viewer ? "demo-viewer" : "demo-operator", groups: ["demo"] };
  const serials = new Map<string, Serial>();
  const now = () => new Date().toISOString();
  /** What Ann, who looks at every console, says of the keyboard. */
  let keyboard: Keyboard = "asked";
  let sessions: Session[] = [
    { id: "1", user: "demo-operator", since: now(), seen: now(), mine: true },
    { id: "2", user: "ann@example.org", since: new Date(Date.now() - 7_200_000).toISOString(), seen: now(), mine: false },
  ];
  const rights = () => (wish.viewer ? VIEWER : EVERYTHING);

  const machineOf = (id: string) => {
    const found = world.all<Machine & Meta>("virtualmachines").get(id);
    if (!found) throw new Refusal(404, `virtualmachines "${id}" not found`);
    return structuredClone(found);
  };
  const runOf = (id: string) => structuredClone(world.all<Instance & Meta>("virtualmachineinstances").get(id));
  const show = (id: string, status: string) => {
    const found = world.all<Machine & Meta>("virtualmachines").get(id);
    if (found) world.put("virtualmachines", { ...found, status: { ...found.status, printableStatus: status, ready: status === "Running" } });
  };
  const start = (id: string) => {
    const of = machineOf(id);
    delete (of.status as { conditions?: unknown }).conditions;
    world.put("virtualmachines", of);
    const run = instance(of, { node: "node-2", address: "10.42.2.99", phase: "Scheduling", age: 0 }) as Instance & Meta;
    world.put("virtualmachineinstances", run);
    show(id, "Starting");
    later(() => {
      const next = instance(of, { node: "node-2", address: "10.42.2.99", age: 3 }) as Instance & Meta;
      next.metadata = { ...run.metadata } as never;
      world.put("virtualmachineinstances", next);
      world.put("pods", pod(next));
      show(id, "Running");
    }, BOOT);
  };
  const stop = (id: string, force: boolean, then: () => void) => {
    const run = runOf(id);
    if (!run) return then();
    run.metadata = { ...run.metadata, deletionTimestamp: now() } as never;
    world.put("virtualmachineinstances", run);
    show(id, "Stopping");
    later(() => {
      world.remove("virtualmachineinstances", id);
      world.remove("pods", key(pod(run)));
      serials.get(id)?.end();
      serials.delete(id);
      show(id, "Stopped");
      then();
    }, force ? 300 : SHUTDOWN);
  };
  const strategy = (id: string, to: "Always" | "Halted") => {
    const of = machineOf(id);
    if (of.spec.runStrategy === "Manual" || of.spec.runStrategy === "RerunOnFailure") return;
    of.spec.runStrategy = to;
    world.put("virtualmachines", of);
  };
  const paused = (id: string, on: boolean) => {
    const run = runOf(id);
    const status = run?.status as { conditions?: { type: string; status: string; reason?: string }[] } | undefined;
    if (!run || !status) return;
    status.conditions = (status.conditions ?? []).filter((one) => one.type !== "Paused");
    if (on) status.conditions.push({ type: "Paused", status: "True", reason: "PausedByUser" });
    world.put("virtualmachineinstances", run);
    show(id, on ? "Paused" : "Running");
  };
  const deeds: Record<Verb, (id: string, force: boolean) => void> = {
    start: (id) => (strategy(id, "Always"), start(id)),
    stop: (id, force) => (strategy(id, "Halted"), stop(id, force, () => {})),
    restart: (id, force) => stop(id, force, () => start(id)),
    pause: (id) => paused(id, true),
    unpause: (id) => paused(id, false),
    softreboot: (id) => serials.get(id)?.boot(),
    reset: (id) => serials.get(id)?.boot(),
  };

  return {
    mode: async () => ({ mode: "kubernetes", login: ["token"], version: "demo" }),
    session: async () => user,
    async login(token) {
      if (token !== "demo") throw new Refusal(401, "the API server does not know this token");
      return (user = { name: "demo-operator", groups: ["demo"] });
    },
    links: async () => ({ grafana: "https://grafana.example.org" }),
    async logout() {
      user = null;
    },
    rights: async () => rights(),
    async list(kind, namespace) {
      return world.list<never>(kind, namespace);
    },
    watch: async <T>(kind: Kind, namespace: string, _version: string, signal: AbortSignal): Promise<AsyncGenerator<Change<T>>> =>
      world.watch<T>(kind, namespace, signal),
    async get<T>(kind: Kind, namespace: string, name: string): Promise<T> {
      const found = world.all(kind).get(`${namespace}/${name}`);
      if (!found) throw new Refusal(404, `${kind} "${name}" not found`);
      return structuredClone(found) as T;
    },
    async create(kind, namespace, object, dryRun) {
      if (kind === "secrets") return object;
      const made = { ...object, metadata: { ...object.metadata, namespace, uid: uid(), creationTimestamp: now() } };
      if (kind === "virtualmachines") checked(made, world);
      if (kind === "baremetalhosts") checkedHost(made);
      if (world.all(kind).has(key(made))) throw new Refusal(409, `${kind} "${made.metadata.name}" already exists`, [{ field: "metadata.name", message: "already exists" }]);
      if (dryRun) return made;
      if (kind === "dataimages") return world.put(kind, made);
      const stored = world.put(kind, kind === "virtualmachines" ? { ...made, status: { printableStatus: "Stopped" } } : { ...made, status: { provisioning: { state: "registering", stateSince: now() }, operationalStatus: "OK" } });
      if (kind === "virtualmachines" && (made as unknown as Machine).spec.runStrategy === "Always") start(key(made));
      return stored;
    },
    async replace(kind, namespace, name, object, dryRun) {
      if (kind === "virtualmachines") checked(object, world);
      const old = world.all(kind).get(`${namespace}/${name}`);
      if (old?.metadata?.resourceVersion !== object.metadata?.resourceVersion) throw new Refusal(409, "the object has been modified; please apply your changes to the latest version and try again");
      return dryRun ? object : world.put(kind, object);
    },
    async remove(kind, namespace, name) {
      const id = `${namespace}/${name}`;
      const image = world.all<DataImage>("dataimages").get(id);
      if (kind === "dataimages" && image?.status?.attachedImage) return void world.put(kind, { ...image, metadata: { ...image.metadata, deletionTimestamp: now() } });
      if (kind !== "virtualmachines") return world.remove(kind, id);
      const of = machineOf(id);
      of.metadata = { ...of.metadata, deletionTimestamp: now() } as never;
      world.put("virtualmachines", of);
      stop(id, false, () => world.remove("virtualmachines", id));
    },
    async act(namespace, name, verb, force) {
      const id = `${namespace}/${name}`;
      const deed = DEEDS.find((one) => one === (force ? `force-${verb}` : verb)) ?? verb;
      const why = hindered(deed, { machine: machineOf(id), instance: runOf(id) }, rights());
      if (why) throw new Refusal(409, why);
      deeds[verb](id, force);
    },
    async node(name, verb) {
      const found = world.all<Node>("nodes").get(`/${name}`);
      if (!found) throw new Refusal(404, `nodes "${name}" not found`);
      world.put("nodes", { ...found, spec: { ...found.spec, unschedulable: verb !== "uncordon" } });
            const pods = [...world.all<Pod>("pods").values()].filter((one) => one.spec?.nodeName === name);
      if (verb !== "drain") return { evicted: 0, refused: [], left: pods.length };
      const next = pods.slice(0, 2);
      for (const one of next) stop(`${one.metadata?.namespace}/${one.metadata?.labels?.["vm.kubevirt.io/name"]}`, false, () => {});
      return { evicted: next.length, refused: pods.slice(2, 3).map((one) => ({ pod: key(one), message: "another machine of its budget is going down" })), left: pods.length };
    },
    async host(namespace, name, change) {
      const id = `${namespace}/${name}`;
      const found = world.all<Meta & { spec?: object; status?: object }>("baremetalhosts").get(id);
      if (!found) throw new Refusal(404, `baremetalhosts "${name}" not found`);
      const boots = (device: BootDevice | null) => {
        const { "catamaran.dev/boot-once": _, ...others } = found.metadata?.annotations ?? {};
        world.put("baremetalhosts", { ...found, metadata: { ...found.metadata, annotations: device ? { ...others, "catamaran.dev/boot-once": device } : others } });
      };
      if ("bootOnce" in change) boots(change.bootOnce);
      if ("reboot" in change) {
        boots(null);
        restarted(world, id);
      }
      if ("online" in change) world.put("baremetalhosts", { ...found, spec: { ...found.spec, online: change.online }, status: { ...found.status, poweredOn: change.online } });
    },
    async hostTold<T>(namespace: string, name: string, what: HostTold, skip: number): Promise<T> {
      const found = world.all<Host>("baremetalhosts").get(`${namespace}/${name}`);
      if (found?.status?.errorMessage) throw new Refusal(500, `baremetalhost "${name}": ${found.status.errorMessage}`);
      return (what === "sensors" ? sensors(found?.status?.poweredOn ?? false) : log(skip)) as T;
    },
    async told(namespace, name, what) {
      const run = runOf(`${namespace}/${name}`);
      if (run?.status?.phase !== "Running") throw new Refusal(409, "VMI is not running");
      const answers = {
        guestosinfo: { guestAgentVersion: "10.0.2", hostname: name, os: { prettyName: "Debian GNU/Linux 13 (trixie)", kernelRelease: "6.12.48", machine: "x86_64" }, timezone: "UTC, 0" },
        userlist: { items: [{ userName: "debian", loginTime: Date.now() / 1000 - 4000 }] },
        filesystemlist: { items: [{ diskName: "vda1", mountPoint: "/", fileSystemType: "ext4", usedBytes: 3_221_225_472, totalBytes: 21_474_836_480 }] },
        dmesg: "[    0.000000] Linux version 6.12.48\n[    0.412001] virtio_blk virtio1: [vda] 41943040 512-byte logical blocks\n",
        usage: used(name),
        viewers: [{ id: "demo", user: "demo-operator", stream: "console", readOnly: false, since: now(), keyboard: "none" }, { id: "ann", user: "ann@example.org", stream: "console", readOnly: true, since: sessions[1]?.since ?? now(), keyboard }],
      };
      return answers[what];
    },
    async screenshot(namespace, name) {
      if (runOf(`${namespace}/${name}`)?.status?.phase !== "Running") throw new Refusal(409, "VMI is not running");
      return drawn(name, []).convertToBlob();
    },
    async stream(namespace, name, kind, streamWish) {
      const id = `${namespace}/${name}`;
      if (runOf(id)?.status?.phase !== "Running") throw new Refusal(409, "VMI is not running");
      if (!rights().allowed.machines?.includes(kind)) throw new Refusal(403, `you may not open ${kind} of machines here`);
      if (kind === "vnc") return new Screen(name, streamWish.readOnly).channel;
      const serial = serials.get(id) ?? new Serial(name);
      serials.set(id, serial);
      return serial.viewer(streamWish);
    },
    async hand(_namespace, _name, _viewer, said) {
      keyboard = said;
    },
    sessions: async () => sessions,
    async endSession(id) {
      sessions = sessions.filter((one) => one.id !== id);
    },
  };
}

/** A start of a server: what is to be in its drive is, and what is to be out is. */
function restarted(world: World, id: string): void {
  const image = world.all<DataImage>("dataimages").get(id);
  if (image?.metadata?.deletionTimestamp) world.remove("dataimages", id);
  else if (image?.spec?.url) world.put("dataimages", { ...image, status: { attachedImage: { url: image.spec.url } } });
}

/** The checks that the demo's server makes, so that errors can be seen on their fields. */
function checked(object: Meta, world: World): void {
  const made = object as unknown as Machine;
  const causes = [];
  const name = object.metadata?.name ?? "";
  if (!/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/.test(name)) causes.push({ field: "metadata.name", message: `Invalid value: "${name}": must be lower-case letters, digits and dashes` });
  const domain = made.spec?.template?.spec?.domain;
  const memory = String(domain?.memory?.guest ?? "");
  if (made.spec?.instancetype && memory) causes.push({ field: "spec.template.spec.domain.memory.guest", message: "conflicts with the instance type, which sets it" });
  if (memory && !/^[0-9]+[KMGT]i?$/.test(memory)) causes.push({ field: "spec.template.spec.domain.memory.guest", message: `Invalid value: "${memory}": must be a quantity such as 2Gi` });
  if (!made.spec?.instancetype && !memory) causes.push({ field: "spec.template.spec.domain.memory.guest", message: "Required value: or an instance type" });
  const type = made.spec?.instancetype?.name;
  if (type && !world.all("virtualmachineclusterinstancetypes").has(`/${type}`)) causes.push({ field: "spec.instancetype.name", message: `Not found: "${type}"` });
  if (causes.length) throw new Refusal(422, causes.map((one) => `${one.field}: ${one.message}`).join(", "), causes);
}

function checkedHost(made: Host): void {
  const address = made.spec?.bmc?.address ?? "";
  const message = `Invalid value: "${address}": must be a URL such as redfish-virtualmedia://192.0.2.7/redfish/v1/Systems/1`;
  if (!/^redfish[a-z+-]*:\/\/[^/]+\/./.test(address)) throw new Refusal(422, `spec.bmc.address: ${message}`, [{ field: "spec.bmc.address", message }]);
}
