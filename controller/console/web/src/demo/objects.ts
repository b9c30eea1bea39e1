/** The invented objects of the demo. Nothing here is real: names, addresses and faults are made up to show what the console shows. */

import type { Claim, Event, Host, Instance, Machine, Meta, Node, Pod, Sized } from "../kinds";

const BEGIN = Date.now();
export const ago = (seconds: number) => new Date(BEGIN - seconds * 1000).toISOString();
let uids = 0;
export const uid = () => `00000000-0000-4000-8000-${String((uids += 1)).padStart(12, "0")}`;

export type Plan = {
  namespace: string;
  name: string;
  strategy?: "Always" | "Halted" | "Manual" | "RerunOnFailure" | "Once";
  node?: string;
  address?: string;
  memory?: string;
  cores?: number;
  labels?: Record<string, string>;
  age?: number;
  image?: string;
};

export function machine(plan: Plan): Machine {
  const { namespace, name, strategy = "Always", memory = "2Gi", cores = 2, labels = {}, age = 86_400 } = plan;
  return {
    apiVersion: "kubevirt.io/v1",
    kind: "VirtualMachine",
    metadata: { namespace, name, uid: uid(), generation: 1, labels, creationTimestamp: ago(age) },
    spec: {
      runStrategy: strategy,
      template: {
        metadata: { labels },
        spec: {
          terminationGracePeriodSeconds: 30,
          domain: {
            cpu: { cores },
            memory: { guest: memory },
            devices: {
              rng: {},
              disks: [{ name: "root", disk: { bus: "virtio" }, bootOrder: 1 }, { name: "seed", disk: { bus: "virtio" } }],
              interfaces: [{ name: "default", masquerade: {} }],
            },
          },
          networks: [{ name: "default", pod: {} }],
          volumes: [
            { name: "root", containerDisk: { image: plan.image ?? "registry.example/debian:13" } },
            { name: "seed", cloudInitNoCloud: { userData: `#cloud-config\nhostname: ${name}\n` } },
          ],
        },
      },
    },
    status: { printableStatus: strategy === "Halted" ? "Stopped" : "Running", ready: strategy !== "Halted", created: strategy !== "Halted" },
  } as unknown as Machine;
}

/** A run of a machine; `phase` Running unless said otherwise. */
export function instance(of: Machine, { node = "node-1", address = "10.42.0.10", phase = "Running", age = 3600 } = {}): Instance {
  const spec = structuredClone(of.spec.template.spec ?? { domain: { devices: {} } });
  const running = phase === "Running";
  return {
    apiVersion: "kubevirt.io/v1",
    kind: "VirtualMachineInstance",
    metadata: {
      namespace: of.metadata?.namespace, name: of.metadata?.name, uid: uid(), creationTimestamp: ago(age), labels: of.metadata?.labels,
      ownerReferences: [{ apiVersion: "kubevirt.io/v1", kind: "VirtualMachine", name: of.metadata?.name ?? "", uid: of.metadata?.uid ?? "" }],
    },
    spec,
    status: {
      phase,
      nodeName: phase === "Scheduling" ? undefined : node,
      guestOSInfo: running ? { prettyName: "Debian GNU/Linux 13 (trixie)", kernelRelease: "6.12.48", name: "Debian" } : undefined,
      memory: { guestAtBoot: spec.domain.memory?.guest, guestCurrent: spec.domain.memory?.guest },
      currentCPUTopology: { cores: spec.domain.cpu?.cores ?? 1, sockets: 1, threads: 1 },
      interfaces: running ? [{ name: "default", mac: "02:5e:10:00:00:0a", ipAddress: address, ipAddresses: [address, "fd00:10:42::a"], interfaceName: "eth0", infoSource: "domain, guest-agent" }] : [],
      conditions: [
        { type: "Ready", status: running ? "True" : "False", reason: running ? undefined : "GuestNotRunning", message: running ? undefined : "Guest VM is not reported as running", lastTransitionTime: ago(age - 5) },
        ...(running ? [{ type: "AgentConnected", status: "True", lastTransitionTime: ago(age - 9) }] : []),
      ],
    },
  } as unknown as Instance;
}

const kvm = (is: boolean) => ({ "catamaran.dev/kvm": String(is), "kubevirt.io/schedulable": "true", "kubernetes.io/arch": "amd64" });

export function node(name: string, { ready = "True", has = true, cordoned = false, memory = "134890768Ki", cpu = "32", taints = [] as { key: string; effect: string }[], annotations = {} } = {}): Node {
  return {
    metadata: { name, uid: uid(), creationTimestamp: ago(40 * 86_400), labels: kvm(has), annotations: { "kubevirt.io/heartbeat": ago(20), ...annotations } },
    spec: { unschedulable: cordoned, taints },
    status: {
      capacity: { cpu, memory, pods: "110", ...(has ? { "devices.kubevirt.io/kvm": "1k" } : {}) },
      allocatable: { cpu, memory, pods: "110", ...(has ? { "devices.kubevirt.io/kvm": "1k" } : {}) },
      conditions: [
        { type: "Ready", status: ready, reason: ready === "True" ? "KubeletReady" : "NodeStatusUnknown", message: ready === "True" ? "kubelet is posting ready status" : "Kubelet stopped posting node status.", lastTransitionTime: ago(ready === "True" ? 3 * 86_400 : 95) },
        { type: "MemoryPressure", status: "False", reason: "KubeletHasSufficientMemory", lastTransitionTime: ago(3 * 86_400) },
      ],
      addresses: [{ type: "InternalIP", address: `192.0.2.${10 + Number(name.replace(/\D/g, ""))}` }],
      nodeInfo: { kernelVersion: "6.12.48-amd64", osImage: "Debian GNU/Linux 13 (trixie)", architecture: "amd64", kubeletVersion: "v1.34.1" },
    },
  };
}

export function event(namespace: string, kind: string, name: string, reason: string, message: string, { type = "Normal", seconds = 60, count = 1 } = {}): Event {
  return {
    metadata: { namespace, name: `${name}.${uid().slice(-8)}`, uid: uid(), creationTimestamp: ago(seconds) },
    type, reason, message, count, lastTimestamp: ago(seconds), reportingComponent: "catamaran-controller",
    involvedObject: { kind, name, namespace },
  };
}

export function host(name: string, state: string, more: { on?: boolean; error?: string; node?: string; since?: number; status?: string; progress?: string; annotations?: Record<string, string> } = {}): Host {
  const known = !["registering", "inspecting"].includes(state);
  const number = Number(name.replace(/\D/g, "")) || 1;
  return {
    metadata: { namespace: "metal", name, uid: uid(), creationTimestamp: ago(30 * 86_400), annotations: more.annotations ?? {} },
    spec: {
      online: more.on ?? true,
      bmc: { address: `redfish-virtualmedia://192.0.2.${100 + number}/redfish/v1/Systems/1`, credentialsName: `${name}-bmc` },
      bootMACAddress: `02:00:00:00:01:${String(number).padStart(2, "0")}`,
      bootMode: "UEFI",
      ...(state === "provisioned" || state === "provisioning" ? { image: { url: "http://images.example/debian-13.qcow2", format: "qcow2" } } : {}),
      ...(more.node ? { consumerRef: { kind: "Node", name: more.node } } : {}),
    },
    status: {
      operationalStatus: more.error ? "error" : "OK",
      errorType: more.error ? "registration error" : "",
      errorMessage: more.error ?? "",
      errorCount: more.error ? 4 : 0,
      poweredOn: more.on ?? true,
      lastUpdated: ago(12),
      provisioning: { state, stateSince: ago(more.since ?? 7 * 86_400) } as never,
      ...(known
        ? {
            hardware: {
              cpu: { arch: "x86_64", model: "EPYC 9354P", count: 64, clockMegahertz: 3250 },
              ramMebibytes: 393_216,
              hostname: name,
              firmware: { bios: { vendor: "Example", version: "2.19.1", date: "2026-03-02" } },
              systemVendor: { manufacturer: "Example Systems", productName: "R6615", serialNumber: `EX${1000 + number}` },
              nics: [{ name: "eno1", mac: `02:00:00:00:01:${String(number).padStart(2, "0")}`, speedGbps: 25, pxe: true }, { name: "eno2", mac: `02:00:00:00:02:${String(number).padStart(2, "0")}`, speedGbps: 25 }],
              storage: [{ name: "/dev/nvme0n1", type: "NVME", sizeBytes: 1_920_383_410_176, model: "PM9A3", serialNumber: `S64${number}` }],
            },
          }
        : {}),
      conditions: [
        { type: "Progressing", status: more.progress ? "True" : "False", reason: more.progress ? "Working" : "Settled", message: more.progress ?? "", lastTransitionTime: ago(more.since ?? 7 * 86_400) },
        ...(more.annotations?.["catamaran.dev/fenced"] ? [{ type: "Fenced", status: "True", reason: "ProvedOff", message: more.annotations["catamaran.dev/fenced"], lastTransitionTime: ago(540) }] : []),
      ],
    },
  };
}

export const sized = (name: string, cpu: number, memory: string): Sized => ({ metadata: { name, uid: uid() }, spec: { cpu: { guest: cpu }, memory: { guest: memory } } });
export const named = (name: string): Meta => ({ metadata: { name, uid: uid(), creationTimestamp: ago(60 * 86_400) } });
export const claim = (namespace: string, name: string, phase: string): Claim => ({
  metadata: { namespace, name, uid: uid(), creationTimestamp: ago(2 * 86_400) },
  spec: { storageClassName: "fast", resources: { requests: { storage: "20Gi" } } },
  status: { phase },
});

/** The launcher pod of a run. */
export function pod(of: Instance): Pod {
  return {
    metadata: { namespace: of.metadata?.namespace ?? "", name: `virt-launcher-${of.metadata?.name}-x7k2p`, uid: uid(), creationTimestamp: ago(3600), labels: { "kubevirt.io": "virt-launcher", "vm.kubevirt.io/name": of.metadata?.name ?? "" } },
    spec: { nodeName: of.status?.nodeName ?? "", containers: [{ resources: { requests: { cpu: "200m", memory: "2300Mi" } } }] },
    status: { phase: of.status?.phase === "Running" ? "Running" : "Pending", conditions: [], containerStatuses: [] },
  };
}
