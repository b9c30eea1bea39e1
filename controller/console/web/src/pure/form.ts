/**
 * The form of a new machine. The object is the truth: the form reads its fields from it and writes them into it, so that what was typed as YAML and
 * has no field in the form stays as it is. Pure.
 */

import type { Cause } from "../server";

export type Form = {
  name: string;
  namespace: string;
  strategy: string;
  /** `kind/name`; empty: its own size. */
  type: string;
  preference: string;
  cores: string;
  memory: string;
  from: "image" | "claim";
  image: string;
  claim: string;
  userData: string;
  /** Name of the Secret that has the user data; empty: it is in the machine. */
  userDataSecret: string;
  network: "pod" | "none";
};
export type Field = keyof Form;

type Loose = { [key: string]: unknown };
const CLUSTER_TYPE = "VirtualMachineClusterInstancetype";
const CLUSTER_PREFERENCE = "VirtualMachineClusterPreference";
const [ROOT, SEED, NET] = ["root", "cloud-init", "default"];

/** A machine to begin with. */
export function begun(namespace: string): Loose {
  return {
    apiVersion: "kubevirt.io/v1",
    kind: "VirtualMachine",
    metadata: { name: "", namespace },
    spec: {
      runStrategy: "Always",
      template: {
        spec: {
          domain: {
            cpu: { cores: 1 },
            memory: { guest: "1Gi" },
            devices: { rng: {}, disks: [{ name: ROOT, disk: { bus: "virtio" } }], interfaces: [{ name: NET, masquerade: {} }] },
          },
          networks: [{ name: NET, pod: {} }],
          volumes: [{ name: ROOT, containerDisk: { image: "" } }],
        },
      },
    },
  };
}

/** What is at a path, where there is an object all the way. */
function at(object: unknown, path: string): unknown {
  return path.split(".").reduce<unknown>((inner, key) => (typeof inner === "object" && inner !== null ? (inner as Loose)[key] : undefined), object);
}

const text = (value: unknown) => (typeof value === "string" || typeof value === "number" ? String(value) : "");
const list = (value: unknown) => (Array.isArray(value) ? (value as Loose[]).filter((one) => typeof one === "object" && one !== null) : []);
const SPEC = "spec.template.spec";

/** Writes a value; `undefined` takes the field away. What is on the way is made. */
function set(object: Loose, path: string, value: unknown): void {
  const keys = path.split(".");
  const last = keys.pop() ?? "";
  let inner = object;
  for (const key of keys) {
    if (typeof inner[key] !== "object" || inner[key] === null || Array.isArray(inner[key])) inner[key] = {};
    inner = inner[key] as Loose;
  }
  if (value === undefined) delete inner[last];
  else inner[last] = value;
}

const root = (volumes: Loose[]) => volumes.find((one) => one.containerDisk || one.persistentVolumeClaim);
const seed = (volumes: Loose[]) => volumes.find((one) => one.cloudInitNoCloud);

function named(matcher: unknown, cluster: string): string {
  const name = text(at(matcher, "name"));
  return name && `${text(at(matcher, "kind")) || cluster}/${name}`;
}

export function read(object: object): Form {
  const volumes = list(at(object, `${SPEC}.volumes`));
  const disk = root(volumes);
  const init = seed(volumes);
  return {
    name: text(at(object, "metadata.name")),
    namespace: text(at(object, "metadata.namespace")),
    strategy: text(at(object, "spec.runStrategy")) || "Halted",
    type: named(at(object, "spec.instancetype"), CLUSTER_TYPE),
    preference: named(at(object, "spec.preference"), CLUSTER_PREFERENCE),
    cores: text(at(object, `${SPEC}.domain.cpu.cores`)),
    memory: text(at(object, `${SPEC}.domain.memory.guest`)),
    from: disk?.persistentVolumeClaim ? "claim" : "image",
    image: text(at(disk, "containerDisk.image")),
    claim: text(at(disk, "persistentVolumeClaim.claimName")),
    userData: text(at(init, "cloudInitNoCloud.userData")),
    userDataSecret: text(at(init, "cloudInitNoCloud.secretRef.name")),
    network: list(at(object, `${SPEC}.domain.devices.interfaces`)).length > 0 ? "pod" : "none",
  };
}

/** The object with one field changed; the object that was given stays as it is. */
export function write(object: object, field: Field, value: string): Loose {
  const next = structuredClone(object) as Loose;
  const or = (value: string) => (value === "" ? undefined : value);
  switch (field) {
    case "name":
    case "namespace":
      set(next, `metadata.${field}`, value);
      break;
    case "strategy":
      set(next, "spec.runStrategy", value);
      break;
    case "type":
      set(next, "spec.instancetype", matcher(value));
      // An instance type and a size of its own contradict each other.
      set(next, `${SPEC}.domain.cpu`, value ? undefined : { cores: 1 });
      set(next, `${SPEC}.domain.memory`, value ? undefined : { guest: "1Gi" });
      break;
    case "preference":
      set(next, "spec.preference", matcher(value));
      break;
    case "cores":
      set(next, `${SPEC}.domain.cpu.cores`, /^[0-9]+$/.test(value) ? Number(value) : or(value));
      break;
    case "memory":
      set(next, `${SPEC}.domain.memory.guest`, or(value));
      break;
    case "from":
      rooted(next, value === "claim" ? { persistentVolumeClaim: { claimName: "" } } : { containerDisk: { image: "" } });
      break;
    case "image":
      rooted(next, { containerDisk: { image: value } });
      break;
    case "claim":
      rooted(next, { persistentVolumeClaim: { claimName: value } });
      break;
    case "userData":
      seeded(next, value === "" ? undefined : { userData: value });
      break;
    case "userDataSecret":
      seeded(next, value === "" ? undefined : { secretRef: { name: value } });
      break;
    case "network":
      set(next, `${SPEC}.domain.devices.interfaces`, value === "pod" ? [{ name: NET, masquerade: {} }] : []);
      set(next, `${SPEC}.networks`, value === "pod" ? [{ name: NET, pod: {} }] : []);
      set(next, `${SPEC}.domain.devices.autoattachPodInterface`, value === "pod" ? undefined : false);
      break;
  }
  return next;
}

function matcher(value: string): Loose | undefined {
  const [kind, name] = value.split("/", 2);
  if (!kind || !name) return undefined;
  return kind === CLUSTER_TYPE || kind === CLUSTER_PREFERENCE ? { name } : { kind, name };
}

function rooted(object: Loose, source: Loose): void {
  const volumes = list(at(object, `${SPEC}.volumes`));
  const name = root(volumes)?.name ?? ROOT;
  const next = { name, ...source };
  set(object, `${SPEC}.volumes`, root(volumes) ? volumes.map((one) => (one.name === name ? next : one)) : [next, ...volumes]);
  disk(object, text(name), true);
}

function seeded(object: Loose, source: Loose | undefined): void {
  const volumes = list(at(object, `${SPEC}.volumes`));
  const known = seed(volumes);
  const name = text(known?.name) || SEED;
  const others = volumes.filter((one) => one !== known);
  const place = known ? volumes.indexOf(known) : others.length;
  if (source) others.splice(place, 0, { name, cloudInitNoCloud: { ...(known?.cloudInitNoCloud as Loose | undefined), userData: undefined, secretRef: undefined, ...source } });
  set(object, `${SPEC}.volumes`, JSON.parse(JSON.stringify(others)));
  disk(object, name, source !== undefined);
}

/** A disk for a volume is there, or is not. */
function disk(object: Loose, name: string, wanted: boolean): void {
  const disks = list(at(object, `${SPEC}.domain.devices.disks`));
  const there = disks.some((one) => one.name === name);
  if (wanted && !there) set(object, `${SPEC}.domain.devices.disks`, [...disks, { name, disk: { bus: "virtio" } }]);
  if (!wanted && there) set(object, `${SPEC}.domain.devices.disks`, disks.filter((one) => one.name !== name));
}

/** Which field of the form the errors of a server belong to; the others have no field. */
export function placed(causes: Cause[], object: object): { fields: Partial<Record<Field, string>>; others: Cause[] } {
  const fields: Partial<Record<Field, string>> = {};
  const others: Cause[] = [];
  for (const cause of causes) {
    const field = fieldOf(cause.field, object);
    if (field === undefined) others.push(cause);
    else fields[field] = [fields[field], cause.message].filter(Boolean).join("; ");
  }
  return { fields, others };
}

const BY_PATH: [prefix: string, field: Field][] = [
  ["metadata.name", "name"], ["metadata.namespace", "namespace"], ["spec.runStrategy", "strategy"], ["spec.running", "strategy"],
  ["spec.instancetype", "type"], ["spec.preference", "preference"], [`${SPEC}.domain.cpu`, "cores"], [`${SPEC}.domain.memory`, "memory"],
  [`${SPEC}.domain.resources`, "memory"], [`${SPEC}.networks`, "network"], [`${SPEC}.domain.devices.interfaces`, "network"],
];

function fieldOf(path: string, object: object): Field | undefined {
  const index = /^spec\.template\.spec\.volumes\[(\d+)\]/.exec(path)?.[1];
  if (index !== undefined) {
    const volume = list(at(object, `${SPEC}.volumes`))[Number(index)];
    if (volume?.containerDisk) return "image";
    if (volume?.persistentVolumeClaim) return "claim";
    if (volume?.cloudInitNoCloud) return "userData";
  }
  // `metadata.name` is not the beginning of `metadata.namespace`.
  return BY_PATH.find(([prefix]) => path === prefix || path.startsWith(`${prefix}.`) || path.startsWith(`${prefix}[`))?.[1];
}
