/** The fields of Kubernetes' and Metal3's objects that the console reads. Those of machines are from their own package. */

import type { V1VirtualMachine, V1VirtualMachineInstance } from "@kubevirt-ui-ext/kubevirt-api/kubevirt";

export type Machine = V1VirtualMachine;
export type Instance = V1VirtualMachineInstance;

export type Meta = {
  metadata?: {
    namespace?: string;
    name?: string;
    uid?: string;
    resourceVersion?: string;
    generation?: number;
    creationTimestamp?: string;
    deletionTimestamp?: string;
    deletionGracePeriodSeconds?: number;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
    ownerReferences?: { kind: string; name: string; uid?: string }[];
  };
};
export type Condition = { type: string; status: string; reason?: string; message?: string; lastTransitionTime?: string | null };

export type Event = Meta & {
  type?: string;
  reason?: string;
  message?: string;
  count?: number;
  eventTime?: string | null;
  firstTimestamp?: string | null;
  lastTimestamp?: string | null;
  series?: { count?: number; lastObservedTime?: string };
  source?: { component?: string };
  reportingComponent?: string;
  involvedObject?: { kind?: string; name?: string; namespace?: string };
};

export type Node = Meta & {
  spec?: { unschedulable?: boolean; taints?: { key: string; value?: string; effect: string }[]; providerID?: string };
  status?: {
    capacity?: Record<string, string>;
    allocatable?: Record<string, string>;
    conditions?: Condition[];
    addresses?: { type: string; address: string }[];
    nodeInfo?: { kernelVersion?: string; osImage?: string; architecture?: string; kubeletVersion?: string };
  };
};

export type Pod = Meta & {
  spec?: { nodeName?: string; containers?: { resources?: { requests?: Record<string, string> } }[] };
  status?: {
    phase?: string;
    conditions?: Condition[];
    containerStatuses?: { state?: { waiting?: { reason?: string; message?: string } } }[];
  };
};

export type Claim = Meta & { spec?: { storageClassName?: string; resources?: { requests?: Record<string, string> } }; status?: { phase?: string } };
export type Sized = Meta & { spec?: { cpu?: { guest?: number }; memory?: { guest?: string } } };

export type Hardware = {
  cpu?: { arch?: string; model?: string; count?: number; clockMegahertz?: number };
  ramMebibytes?: number;
  hostname?: string;
  firmware?: { bios?: { vendor?: string; version?: string; date?: string } };
  systemVendor?: { manufacturer?: string; productName?: string; serialNumber?: string };
  nics?: { name?: string; mac?: string; ip?: string; speedGbps?: number; model?: string; pxe?: boolean }[];
  storage?: { name?: string; type?: string; sizeBytes?: number; model?: string; serialNumber?: string; rotational?: boolean }[];
};

export type Host = Meta & {
  spec?: {
    online?: boolean;
    description?: string;
    bootMACAddress?: string;
    bootMode?: string;
    inspectionMode?: string;
    externallyProvisioned?: boolean;
    bmc?: { address?: string; credentialsName?: string; disableCertificateVerification?: boolean; certificateFingerprint?: string };
    image?: { url?: string; checksum?: string; format?: string };
    consumerRef?: { kind?: string; name?: string; namespace?: string };
  };
  status?: {
    operationalStatus?: string;
    errorType?: string;
    errorMessage?: string;
    errorCount?: number;
    poweredOn?: boolean;
    lastUpdated?: string;
    hardware?: Hardware;
    provisioning?: { state?: string; stateSince?: string; ID?: string; image?: { url?: string; format?: string } };
    conditions?: Condition[];
  };
};

/** The CD of the server of its name. */
export type DataImage = Meta & { spec?: { url?: string }; status?: { attachedImage?: { url?: string }; error?: { count?: number; message?: string } } };

export type Bounds = { low?: number; high?: number };
export type Sensor = { name: string; type: string; reading?: number; unit: string; health?: string; caution?: Bounds; critical?: Bounds };
export type HostSensors = { readAt: string; health?: string; sensors: Sensor[]; gaps: string[] };
export type HostEvent = { id: string; created?: string; severity?: string; message: string; about?: string };
/** Newest first. `log`: its name; none where there is none. */
export type HostEvents = { readAt: string; log?: string; total: number; entries: HostEvent[]; gaps?: string[] };
