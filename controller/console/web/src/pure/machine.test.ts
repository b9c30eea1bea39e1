import { expect, test } from "vitest";
import type { Event, Instance, Machine, Node, Pod } from "../kinds";
import { compared, disks, nics, source } from "./machine";
import { timeline } from "./timeline";
import { type Facts, why } from "./why";
import { parsed, text } from "./yaml";

const spec = {
  domain: {
    cpu: { cores: 2 }, memory: { guest: "4Gi" },
    devices: { disks: [{ name: "root", disk: { bus: "virtio" }, bootOrder: 1 }, { name: "cd", cdrom: { bus: "sata" } }], interfaces: [{ name: "default", masquerade: {}, ports: [] }] },
  },
  networks: [{ name: "default", pod: {} }],
  volumes: [{ name: "root", persistentVolumeClaim: { claimName: "data" } }],
};
const machine = (runStrategy: string, status: object = {}) =>
  ({ metadata: { name: "web", namespace: "a" }, spec: { runStrategy, template: { spec } }, status }) as unknown as Machine;
const run = (phase: string, status: object = {}, metadata: object = {}) =>
  ({ metadata, spec, status: { phase, nodeName: "n1", ...status } }) as unknown as Instance;
const told = (type: string, status: string, reason: string, message: string) => ({ conditions: [{ type, status, reason, message }] });
const say = (facts: Partial<Facts>) =>
  why({ name: "web", now: Date.parse("2026-01-01T00:00:00Z"), machine: machine("Always"), instance: undefined, pods: [], claims: [], events: [], nodes: [], ...facts }).sentence;

test("why: what runs, runs, and what waits for a restart is said", () => {
  expect(say({ instance: run("Running") })).toBe("web runs on node n1 and is ready.");
  const waiting = machine("Always", told("RestartRequired", "True", "", ""));
  expect(say({ machine: waiting, instance: run("Running") })).toBe("web runs on node n1 and is ready; what was changed of it waits for a restart.");
});

test("why: a pause is explained before all else about the run", () => {
  const paused = run("Running", told("Paused", "True", "PausedIOError", "no space left on device."));
  expect(say({ instance: paused })).toBe("web is paused because node n1 could not write or read a disk: no space left on device.");
});

test("why: a silent node leaves it open whether the machine runs", () => {
  const node = { metadata: { name: "n1" }, status: { conditions: [{ type: "Ready", status: "Unknown" }] } } as Node;
  expect(say({ instance: run("Running"), nodes: [node] })).toMatch(/^Node n1 does not answer, so nobody knows/);
});

test("why: stopping, stopped and failing", () => {
  expect(say({ instance: run("Running", {}, { deletionTimestamp: "2026-01-01T00:00:00Z" }) })).toContain("its guest has 30 s to shut down");
  expect(say({ machine: machine("Halted") })).toBe("web is stopped because its run strategy is Halted; Start starts it.");
  const failing = machine("Always", { startFailure: { consecutiveFailCount: 3, retryAfterTimestamp: "2026-01-01T00:01:20Z" } });
  const event = { type: "Warning", reason: "GuestPanicked", message: "no root", involvedObject: { kind: "VirtualMachineInstance", name: "web" } } as Event;
  expect(say({ machine: failing, events: [event] })).toBe("web waits because it has failed again and again, 3 in a row (no root); it is tried again in 80 s.");
});

test("why: a pod that no node takes, for lack of KVM or memory", () => {
  const pod = (message: string): Pod => ({ metadata: { name: "p" }, spec: { containers: [{ resources: { requests: { memory: "9Gi" } } }] }, status: { conditions: [{ type: "PodScheduled", status: "False", message }] } });
  expect(say({ instance: run("Scheduling"), pods: [pod("Insufficient devices.kubevirt.io/kvm")] })).toContain("offers KVM");
  expect(say({ instance: run("Scheduling"), pods: [pod("0/3 nodes: Insufficient memory.")] })).toBe("web does not start because no node has the memory left that it asks for (9Gi): 0/3 nodes: Insufficient memory.");
});

test("why: a claim that is not bound, in its storage's words", () => {
  const pod: Pod = { metadata: {}, status: { conditions: [{ type: "PodScheduled", status: "False", message: "unbound immediate PersistentVolumeClaims" }] } };
  const claims = [{ metadata: { name: "data" }, status: { phase: "Pending" } }];
  const events: Event[] = [{ type: "Warning", reason: "ProvisioningFailed", message: "pool is full.", involvedObject: { kind: "PersistentVolumeClaim", name: "data" } }];
  expect(say({ instance: run("Scheduling"), pods: [pod], claims, events })).toBe('web does not start because claim "data" is not bound to a volume: pool is full.');
});

test("what runs otherwise than specified differs", () => {
  const other = run("Running", { memory: { guestCurrent: "2Gi" }, currentCPUTopology: { cores: 2, sockets: 1, threads: 1 } });
  const differing = compared(machine("Always"), other).filter((one) => one.differs);
  expect(differing).toEqual([{ what: "Memory", specified: "4 GiB", running: "2 GiB", differs: true }]);
  expect(compared(machine("Always"), undefined).some((one) => one.differs)).toBe(false);
});

test("disks have their volumes, and a disk without one says so", () => {
  const plugged = run("Running", { volumeStatus: [{ name: "root", phase: "Ready", hotplugVolume: {} }] });
  expect(disks(machine("Always"), plugged)).toMatchObject([{ name: "root", kind: "disk, plugged", source: "claim data", order: "1", state: "Ready" }, { name: "cd", kind: "CD-ROM", bus: "sata", source: "" }]);
  expect(source({ name: "x", downwardAPI: {} })).toBe("downwardAPI");
});

test("interfaces have their binding, and the addresses of the run", () => {
  const running = run("Running", { interfaces: [{ name: "default", mac: "02:00:00:00:00:01", ipAddress: "10.0.0.5" }] });
  expect(nics(machine("Always"), running)).toMatchObject([{ network: "pod network", binding: "masquerade", mac: "02:00:00:00:00:01", addresses: ["10.0.0.5"] }]);
});

test("a timeline has the newest first, and trouble marked", () => {
  const events: Event[] = [{ reason: "Started", lastTimestamp: "2026-01-01T00:00:01Z" }, { reason: "Failed", type: "Warning", eventTime: "2026-01-01T00:00:03.500Z", series: { count: 4 } }];
  const entries = timeline(events, [{ about: "instance", conditions: [{ type: "Ready", status: "False", lastTransitionTime: "2026-01-01T00:00:02Z" }] }]);
  expect(entries.map((one) => [one.title, one.warning, one.count])).toEqual([["Failed", true, 4], ["Ready is False", true, 1], ["Started", false, 1]]);
});

test("a machine that is down is not ready, and that is no trouble", () => {
  const down = { type: "Ready", status: "False", reason: "VMINotExists", lastTransitionTime: "2026-01-01T00:00:02Z" };
  expect(timeline([], [{ about: "machine", conditions: [down] }])[0]?.warning).toBe(false);
});

test("YAML is read back, says where it is wrong, and has no managed fields", () => {
  const object = { metadata: { name: "a", managedFields: [{}] }, spec: { on: true }, status: {} };
  expect(parsed(text(object, ["status"]))).toEqual({ metadata: { name: "a" }, spec: { on: true } });
  expect(() => parsed("a: [1")).toThrow(/line 1/);
  expect(() => parsed("- 1")).toThrow("must be one object");
});
