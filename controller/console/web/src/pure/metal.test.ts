import { expect, test } from "vitest";
import type { Host, Instance, Node } from "../kinds";
import { enrolled, hostRows, inventory } from "./hosts";
import { nodeRows } from "./nodes";

const node = (name: string, ready: string, more: object = {}, labels: Record<string, string> = {}): Node => ({
  metadata: { name, labels, ...more },
  status: { allocatable: { cpu: "8", memory: "16Gi" }, conditions: [{ type: "Ready", status: ready, message: "said" }] },
});
const run = (nodeName: string, phase: string) =>
  ({ spec: { domain: { cpu: { cores: 2, sockets: 2 }, memory: { guest: "4Gi" }, devices: {} } }, status: { nodeName, phase } }) as unknown as Instance;

test("a node has what its running machines take", () => {
  const [row] = nodeRows([node("n1", "True")], [run("n1", "Running"), run("n1", "Failed"), run("n2", "Running")]);
  expect(row).toMatchObject({ status: "Ready", cpu: { all: 8, taken: 4 }, memory: { all: 16 * 2 ** 30, taken: 4 * 2 ** 30 }, takes: false });
  expect(row?.machines).toHaveLength(1);
});

test("a silent node is lost, until it is proved to be off", () => {
  const fenced = node("n10", "Unknown", { annotations: { "catamaran.dev/fenced-by": "metal/rack1" } });
  const rows = nodeRows([fenced, node("n9", "Unknown"), node("n1", "False")], []);
  expect(rows.map((row) => [row.name, row.status])).toEqual([["n1", "Not ready"], ["n9", "Lost"], ["n10", "Fenced"]]);
});

test("KVM is yes, no or not known", () => {
  const kvm = (label?: string) => nodeRows([node("n", "True", {}, label === undefined ? {} : { "catamaran.dev/kvm": label })], [])[0]?.kvm;
  expect([kvm("true"), kvm("false"), kvm()]).toEqual(["yes", "no", "unknown"]);
});

test("a server's error comes before what it does, and power that is asked for is told", () => {
  const host: Host = {
    metadata: { namespace: "m", name: "r" },
    spec: { online: true, consumerRef: { kind: "Node", name: "n1" } },
    status: { operationalStatus: "error", errorType: "registration error", errorMessage: "401", poweredOn: false, provisioning: { state: "registering" }, conditions: [{ type: "Progressing", status: "True", message: "tries" }] },
  };
  expect(hostRows([host])[0]).toMatchObject({ state: "registering", reason: "registration error: 401", failed: true, power: "off", wanted: "on", user: "Node n1", fenced: undefined });
});

test("a fenced server has its proof, and whether it is held off", () => {
  const host: Host = { metadata: { name: "r", annotations: { "catamaran.dev/fenced": "read Off", "reboot.metal3.io/catamaran-fence": "" } }, status: { conditions: [{ type: "Fenced", status: "True", lastTransitionTime: "2026-01-01T00:00:00Z" }] } };
  expect(hostRows([host])[0]?.fenced).toEqual({ proof: "read Off", at: "2026-01-01T00:00:00Z", held: true });
});

test("an inventory has no empty lines", () => {
  expect(inventory({ ramMebibytes: 2048, cpu: { count: 4, arch: "x86_64" }, storage: [{ name: "/dev/sda", sizeBytes: 2 ** 40 }], nics: [] })).toEqual([
    ["Processors", "4 threads, x86_64"], ["Memory", "2 GiB"], ["Disk", "/dev/sda, 1 TiB"],
  ]);
});

test("an enrolment keeps its password in the Secret only", () => {
  const form = { name: "r", namespace: "m", address: " redfish://x/y ", username: "root", password: "pw", mac: "", trust: "fingerprint", fingerprint: "ab", online: true, inspection: "fast" } as const;
  const { host, secret } = enrolled(form);
  expect(host.spec?.bmc).toEqual({ address: "redfish://x/y", credentialsName: "r-bmc", certificateFingerprint: "ab" });
  expect(host.spec).not.toHaveProperty("bootMACAddress");
  expect(secret.stringData).toEqual({ username: "root", password: "pw" });
  expect(JSON.stringify(host)).not.toContain("pw");
});
