/** What a machine is made of, as it should be and as it runs. Pure. */

import type { Instance, Machine } from "../kinds";
import { bytes } from "./quantity";
import { size } from "./rows";

export type Compared = { what: string; specified: string; running: string; differs: boolean };

type Loose = Record<string, unknown>;
const keys = (object: object | undefined, besides: string[] = ["name"]) => Object.keys(object ?? {}).filter((key) => !besides.includes(key));

export function compared(machine: Machine, instance: Instance | undefined): Compared[] {
  const template = machine.spec?.template?.spec;
  const asked = size(machine, undefined);
  const has = instance ? size(machine, instance) : undefined;
  const strategy = machine.spec?.runStrategy ?? (machine.spec?.running ? "Always" : "Halted");
  const row = (what: string, specified: string, running: string): Compared => ({
    what, specified, running, differs: instance !== undefined && specified !== "" && running !== "" && specified !== running,
  });
  const firmware = template?.domain?.firmware?.bootloader;
  const boots = firmware?.efi ? (firmware.efi.secureBoot === false ? "UEFI" : "UEFI, secure boot") : firmware?.bios ? "BIOS" : "";
  return [
    { ...row("Run strategy", strategy, ""), differs: false },
    row("Processors", asked.cores ? String(asked.cores) : "", has?.cores ? String(has.cores) : ""),
    row("Memory", bytes(asked.memory), has ? bytes(has.memory) : ""),
    row("Instance type", machine.spec?.instancetype?.name ?? "", ""),
    row("Preference", machine.spec?.preference?.name ?? "", ""),
    row("Firmware", boots, ""),
    row("Machine type", template?.domain?.machine?.type ?? "", instance?.status?.machine?.type ?? ""),
    row("Grace period", template?.terminationGracePeriodSeconds === undefined ? "" : `${template.terminationGracePeriodSeconds} s`, instance?.spec?.terminationGracePeriodSeconds === undefined ? "" : `${instance.spec.terminationGracePeriodSeconds} s`),
  ].filter((one) => one.specified !== "" || one.running !== "");
}

export type Disk = { name: string; kind: string; bus: string; source: string; order: string; state: string; trouble: string };

/** A source in words: "claim db-data", "image registry.example/debian". */
export function source(volume: object | undefined): string {
  const of = (volume ?? {}) as Record<string, Loose | undefined>;
  const text = (value: unknown) => (value === undefined ? "" : String(value));
  if (of.containerDisk) return `image ${text(of.containerDisk.image)}`;
  if (of.persistentVolumeClaim) return `claim ${text(of.persistentVolumeClaim.claimName)}`;
  if (of.dataVolume) return `data volume ${text(of.dataVolume.name)}`;
  if (of.emptyDisk) return `empty, ${text(of.emptyDisk.capacity)}`;
  if (of.ephemeral) return `copy of claim ${text((of.ephemeral.persistentVolumeClaim as Loose | undefined)?.claimName)}`;
  if (of.secret) return `secret ${text(of.secret.secretName)}`;
  if (of.configMap) return `config map ${text(of.configMap.name)}`;
  if (of.cloudInitNoCloud || of.cloudInitConfigDrive) return "cloud-init";
  return keys(volume).join(", ");
}

/** Disks of the run where there is one: plugged ones are only there. */
export function disks(machine: Machine, instance: Instance | undefined): Disk[] {
  const spec = instance?.spec ?? machine.spec?.template?.spec;
  const volumes = spec?.volumes ?? [];
  return (spec?.domain?.devices?.disks ?? []).map((disk): Disk => {
    const volume = volumes.find((one) => one.name === disk.name);
    const status = instance?.status?.volumeStatus?.find((one) => one.name === disk.name);
    const kind = disk.cdrom ? "CD-ROM" : disk.lun ? "LUN" : "disk";
    return {
      name: disk.name,
      kind: status?.hotplugVolume ? `${kind}, plugged` : kind,
      bus: disk.disk?.bus ?? disk.cdrom?.bus ?? disk.lun?.bus ?? "",
      source: source(volume),
      order: disk.bootOrder === undefined ? "" : String(disk.bootOrder),
      state: status?.phase ?? "",
      trouble: status?.message ?? "",
    };
  });
}

export type Nic = { name: string; network: string; binding: string; model: string; mac: string; addresses: string[]; guest: string };

export function nics(machine: Machine, instance: Instance | undefined): Nic[] {
  const spec = instance?.spec ?? machine.spec?.template?.spec;
  return (spec?.domain?.devices?.interfaces ?? []).map((nic): Nic => {
    const network = spec?.networks?.find((one) => one.name === nic.name);
    const now = instance?.status?.interfaces?.find((one) => one.name === nic.name);
    return {
      name: nic.name,
      network: network?.multus?.networkName ?? (network?.pod ? "pod network" : keys(network).join(", ")),
      binding: keys(nic, ["name", "model", "macAddress", "ports", "bootOrder", "state", "pciAddress", "acpiIndex", "dhcpOptions", "tag"]).join(", "),
      model: nic.model ?? "virtio",
      mac: now?.mac ?? nic.macAddress ?? "",
      addresses: now?.ipAddresses?.length ? now.ipAddresses : now?.ipAddress ? [now.ipAddress] : [],
      guest: now?.interfaceName ?? "",
    };
  });
}
