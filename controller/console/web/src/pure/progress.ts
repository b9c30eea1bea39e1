/** How far a machine is on its way, against the time that it has. Pure. */

import type { Instance, Machine } from "../kinds";

export type Progress = { word: string; seconds: number; of: number | undefined };

const FINAL = ["Succeeded", "Failed"];

/** Nothing where it is not on its way. */
export function progress(machine: Machine, instance: Instance | undefined, now: number): Progress | undefined {
  const since = (moment: unknown) => Math.max(Math.floor((now - Date.parse(String(moment ?? ""))) / 1000), 0);
  const phase = instance?.status?.phase ?? "";
  const asked = instance?.metadata?.deletionTimestamp;
  if (instance && asked && !FINAL.includes(phase)) {
    const grace = instance.spec?.terminationGracePeriodSeconds ?? 30;
    return { word: "stopping", seconds: since(asked), of: grace };
  }
  if (machine.metadata?.deletionTimestamp) return { word: "deleting", seconds: since(machine.metadata.deletionTimestamp), of: undefined };
  if (instance && phase !== "Running" && !FINAL.includes(phase)) {
    return { word: "starting", seconds: since(instance.metadata?.creationTimestamp), of: undefined };
  }
  return undefined;
}

/** "stopping… 12 s of 180 s". */
export function words({ word, seconds, of }: Progress): string {
  if (of === undefined) return `${word}… ${seconds} s`;
  return seconds > of ? `${word}… ${seconds} s, overdue by ${seconds - of} s` : `${word}… ${seconds} s of ${of} s`;
}
