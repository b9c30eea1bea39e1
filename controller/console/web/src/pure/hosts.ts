/** Servers as the console shows them. Pure. */

import type { Hardware, Host, Meta } from "../kinds";
import { bytes, counted } from "./quantity";

export type HostRow = {
  key: string;
  namespace: string;
  name: string;
  state: string;
  /** An error in its words, or what is being done. */
  reason: string;
  failed: boolean;
  since: string;
  power: "on" | "off" | "unknown";
  /** What `spec.online` asks for, where it is not so yet. */
  wanted: "" | "on" | "off";
  user: string;
  fenced: Fencing | undefined;
  host: Host;
};
export type Fencing = { proof: string; at: string; held: boolean };

/** The annotation that keeps a fenced host off. */
const HOLD = "reboot.metal3.io/catamaran-fence";

export function hostRows(hosts: Iterable<Host>): HostRow[] {
  return [...hosts].map(hostRow).sort((a, b) => a.key.localeCompare(b.key, "en", { numeric: true }));
}

function hostRow(host: Host): HostRow {
  const { metadata, spec, status } = host;
  const progressing = status?.conditions?.find((one) => one.type === "Progressing" && one.status === "True");
  const failed = status?.operationalStatus === "error" || Boolean(status?.errorMessage);
  const power = status?.poweredOn === undefined ? "unknown" : status.poweredOn ? "on" : "off";
  const asked = spec?.online === undefined ? "" : spec.online ? "on" : "off";
  const user = spec?.consumerRef;
  return {
    key: `${metadata?.namespace ?? ""}/${metadata?.name ?? ""}`,
    namespace: metadata?.namespace ?? "",
    name: metadata?.name ?? "",
    state: status?.provisioning?.state || "unmanaged",
    reason: failed ? [status?.errorType, status?.errorMessage].filter(Boolean).join(": ") : (progressing?.message ?? ""),
    failed,
    since: status?.provisioning?.stateSince ?? "",
    power,
    wanted: power === "unknown" || asked === power ? "" : asked,
    user: user ? `${user.kind ?? ""} ${user.name ?? ""}`.trim() : "",
    fenced: fencing(host),
    host,
  };
}

function fencing({ metadata, status }: Host): Fencing | undefined {
  const condition = status?.conditions?.find((one) => one.type === "Fenced" && one.status === "True");
  const proof = metadata?.annotations?.["catamaran.dev/fenced"];
  const held = HOLD in (metadata?.annotations ?? {});
  if (!condition && proof === undefined && !held) return undefined;
  return { proof: proof || condition?.message || "being fenced", at: condition?.lastTransitionTime ?? "", held };
}

/** Lines of an inventory, without those that are not known. */
export function inventory(hardware: Hardware | undefined): [what: string, text: string][] {
  if (!hardware) return [];
  const { cpu, systemVendor, firmware, ramMebibytes, storage = [], nics = [] } = hardware;
  const lines: [string, string][] = [
    ["Maker", [systemVendor?.manufacturer, systemVendor?.productName].filter(Boolean).join(" ")],
    ["Serial number", systemVendor?.serialNumber ?? ""],
    ["Processors", cpu?.count ? [counted(cpu.count, "thread"), cpu.model, cpu.arch].filter(Boolean).join(", ") : ""],
    ["Memory", ramMebibytes ? bytes(ramMebibytes * 2 ** 20) : ""],
    ["Firmware", [firmware?.bios?.vendor, firmware?.bios?.version, firmware?.bios?.date].filter(Boolean).join(" ")],
    ...storage.map((disk): [string, string] => ["Disk", [disk.name, bytes(disk.sizeBytes ?? Number.NaN), disk.type, disk.model, disk.serialNumber].filter(Boolean).join(", ")]),
    ...nics.map((nic): [string, string] => ["Network", [nic.name, nic.mac, nic.ip, nic.speedGbps ? `${nic.speedGbps} Gbit/s` : "", nic.pxe ? "boots" : ""].filter(Boolean).join(", ")]),
  ];
  return lines.filter(([, text]) => text !== "");
}

export type Enrolment = {
  name: string; namespace: string; address: string; username: string; password: string; mac: string;
  trust: "authorities" | "fingerprint" | "none"; fingerprint: string; online: boolean; inspection: "fast" | "agent" | "disabled";
};

export type Enrolled = { host: Host & Meta; secret: Meta & { stringData: Record<string, string> } };

/** The host and the Secret of its credentials. */
export function enrolled(form: Enrolment): Enrolled {
  const credentials = `${form.name}-bmc`;
  return {
    secret: {
      ...{ apiVersion: "v1", kind: "Secret" },
      metadata: { name: credentials, namespace: form.namespace },
      stringData: { username: form.username, password: form.password },
    },
    host: {
      ...{ apiVersion: "metal3.io/v1alpha1", kind: "BareMetalHost" },
      metadata: { name: form.name, namespace: form.namespace },
      spec: {
        online: form.online,
        inspectionMode: form.inspection,
        ...(form.mac.trim() ? { bootMACAddress: form.mac.trim() } : {}),
        bmc: {
          address: form.address.trim(),
          credentialsName: credentials,
          ...(form.trust === "none" ? { disableCertificateVerification: true } : {}),
          ...(form.trust === "fingerprint" ? { certificateFingerprint: form.fingerprint.trim() } : {}),
        },
      },
    },
  };
}
