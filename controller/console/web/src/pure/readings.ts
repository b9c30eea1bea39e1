/** What a server's BMC shows, and what may be asked of it: sensors, virtual media, what it boots from. Pure. */

import type { DataImage, Host, HostEvent, Sensor } from "../kinds";
import type { BootDevice, Rights } from "../server";
import { allows } from "./verbs";

export type SensorGroup = { title: string; sensors: Sensor[]; /** Something in it is not as it should be. */ alarming: boolean };

const TITLES: [type: string, title: string][] = [
  ["temperature", "Temperatures"], ["fan", "Fans"], ["power", "Power"], ["voltage", "Voltages"], ["current", "Currents"], ["other", "Others"],
];

/** Sensors by what they measure; within that what is wrong comes first. */
export function sensorGroups(sensors: Sensor[]): SensorGroup[] {
  const wrong = (one: Sensor) => one.health !== undefined && one.health !== "OK";
  return TITLES.map(([type, title]) => {
    const of = sensors.filter((one) => (TITLES.some(([known]) => known === one.type) ? one.type : "other") === type);
    return { title, sensors: [...of.filter(wrong), ...of.filter((one) => !wrong(one))], alarming: of.some(wrong) };
  }).filter((group) => group.sensors.length > 0);
}

/** A reading with its unit. */
export function reading({ reading, unit }: Sensor): string {
  if (reading === undefined) return "–";
  const digits = Math.abs(reading) >= 100 ? 0 : 2;
  return `${Number(reading.toFixed(digits))} ${unit}`.trim();
}

/** From where on it is worth a look, and from where on something breaks. */
export function bounds({ caution, critical }: Sensor): string {
  const side = (word: string, { low, high } = {} as { low?: number; high?: number }) =>
    [low === undefined ? "" : `${word} below ${low}`, high === undefined ? "" : `${word} above ${high}`];
  return [...side("warning", caution), ...side("critical", critical)].filter(Boolean).join(", ");
}

/** When an entry was written, by the BMC's clock. */
export function written({ created }: HostEvent): string {
  if (!created) return "no time";
  return created.replace("T", " ").replace(/(:\d\d)(\.\d+)?(Z|\+00:00)$/, "$1 UTC");
}

/** Entries with older ones after them: those that are there already, since the log went on meanwhile, once. */
export function older(entries: HostEvent[], more: HostEvent[]): HostEvent[] {
  const known = new Set(entries.map((entry) => entry.id));
  return [...entries, ...more.filter((entry) => !entry.id || !known.has(entry.id))];
}

export type Media = {
  /** The image that is in. */
  inserted: string;
  /** What changes at the next start, in words. */
  pending: string;
  error: string;
  /** Why nothing can be inserted, or ejected; empty where it can. */
  cannotInsert: string;
  cannotEject: string;
};

const IN_USE = ["provisioned", "externally provisioned"];

/** The CD of a server: what is in, what is asked for, and what may be asked. */
export function media(host: Host, image: DataImage | undefined, rights: Rights | undefined): Media {
  const state = host.status?.provisioning?.state ?? "";
  const inserted = image?.status?.attachedImage?.url ?? "";
  const leaving = image?.metadata?.deletionTimestamp !== undefined;
  const wanted = leaving ? "" : (image?.spec?.url ?? "");
  const live = state === "provisioned" && host.status?.provisioning?.image?.format === "live-iso";
  const pending = wanted === inserted ? "" : wanted ? `${wanted} is inserted at its next start.` : `It is ejected at its next start.`;
  const needs = (verb: string, words: string) => (allows(rights, "dataimages", verb) ? "" : `You may not ${words} media here.`);
  return {
    inserted,
    pending: image ? pending : "",
    error: image?.status?.error?.message ?? "",
    cannotInsert:
      needs("create", "insert") ||
      (live ? "It boots from a live ISO, which takes its CD." : "") ||
      (IN_USE.includes(state) ? "" : "Only a server that is in use is given media.") ||
      (image ? "Eject what was inserted first." : ""),
    cannotEject: needs("delete", "eject") || (image ? "" : "Nothing was inserted.") || (leaving ? "It is being ejected already." : ""),
  };
}

/** What is wrong with the URL of a CD, if something is: many BMCs cut off what is behind a question mark. */
export function wrongImage(url: string): string {
  if (!/^https?:\/\/[^/]+\/./.test(url)) return "It must be a URL such as http://images.example/rescue.iso.";
  return /[?&#]/.test(url) ? "BMCs do not take URLs with ?, & or #." : "";
}

export const BOOT_DEVICES: [device: BootDevice, words: string][] = [
  ["cd", "its CD, also a virtual one"], ["pxe", "the network (PXE)"], ["disk", "its disk"], ["bios-setup", "its firmware's settings"],
];

/** What a server is to boot from at its next start; empty: as its firmware says. */
export function bootsOnce(host: Host): string {
  return host.metadata?.annotations?.["catamaran.dev/boot-once"] ?? "";
}

/** Why it can't be said what a server boots from; empty where it can. */
export function cannotBootOnce(host: Host, rights: Rights | undefined): string {
  if (!allows(rights, "baremetalhosts", "patch")) return "You may not change servers here.";
  const { state, image } = host.status?.provisioning ?? {};
  if (state === "provisioned" && image?.format === "live-iso") return "It boots from its live ISO each time.";
  return [...IN_USE, "available"].includes(state ?? "") ? "" : `It is ${state || "not managed"}: what it boots from is decided for it there.`;
}
