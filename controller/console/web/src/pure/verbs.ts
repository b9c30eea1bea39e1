/** What may be done to a machine, by its state and the caller's rights. The server decides; this says beforehand why not. Pure. */

import type { Instance, Machine } from "../kinds";
import type { Rights, Verb } from "../server";
import { condition } from "./rows";

export type Deed = Verb | "force-stop" | "force-restart" | "delete";
export type Subject = { machine: Machine; instance: Instance | undefined };

export const DEEDS: Deed[] = [
  "start", "stop", "restart", "pause", "unpause", "softreboot", "reset", "force-stop", "force-restart", "delete",
];

type About = { label: string; doing: string; done: string; danger: boolean; consequence: string };

/** `consequence`: what is confirmed before; empty: nothing is lost. */
export const ABOUT: Record<Deed, About> = {
  start: { label: "Start", doing: "starting", done: "was started", danger: false, consequence: "" },
  stop: { label: "Stop", doing: "stopping", done: "was asked to stop", danger: false, consequence: "The guest is asked to shut down, and killed if it has not when its grace period is over." },
  restart: { label: "Restart", doing: "restarting", done: "was asked to restart", danger: false, consequence: "The guest shuts down and a new run begins. Who uses it is cut off meanwhile." },
  pause: { label: "Pause", doing: "pausing", done: "was paused", danger: false, consequence: "" },
  unpause: { label: "Unpause", doing: "unpausing", done: "goes on", danger: false, consequence: "" },
  softreboot: { label: "Soft reboot", doing: "rebooting", done: "was asked to reboot", danger: false, consequence: "The guest reboots. Who uses it is cut off meanwhile." },
  reset: { label: "Reset", doing: "resetting", done: "was reset", danger: true, consequence: "As if its reset button was pressed: what the guest has not written yet is lost." },
  "force-stop": { label: "Force stop", doing: "stopping", done: "is killed", danger: true, consequence: "The guest is killed at once: what it has not written yet is lost." },
  "force-restart": { label: "Force restart", doing: "restarting", done: "is killed and started again", danger: true, consequence: "The guest is killed at once and started again: what it has not written yet is lost." },
  delete: { label: "Delete", doing: "deleting", done: "is being deleted", danger: true, consequence: "The machine is stopped and its definition deleted. Its claims stay; disks without a claim are lost." },
};

const FINAL = ["Succeeded", "Failed"];

/** Why not, or an empty text. */
export function hindered(deed: Deed, subject: Subject, rights: Rights | undefined): string {
  return forbidden(deed, rights) || contradicted(deed, subject);
}

/** A right that is missing. Rights that are not known yet forbid nothing: the server does. */
export function forbidden(deed: Deed, rights: Rights | undefined): string {
  if (!rights) return "";
  if (deed === "delete") return allows(rights, "virtualmachines", "delete") ? "" : "You may not delete machines here.";
  const verb = deed.replace("force-", "");
  return allows(rights, "machines", verb) ? "" : `You may not ${ABOUT[deed].label.toLowerCase()} machines here.`;
}

export function allows(rights: Rights | undefined, thing: string, verb: string): boolean {
  return !rights || (rights.allowed[thing]?.includes(verb) ?? false);
}

function contradicted(deed: Deed, { machine, instance }: Subject): string {
  const phase = instance?.status?.phase ?? "";
  const live = instance !== undefined && !FINAL.includes(phase);
  const running = phase === "Running";
  const paused = condition(instance, "Paused", "True") !== undefined;
  const strategy = machine.spec?.runStrategy ?? (machine.spec?.running ? "Always" : "Halted");
  const leaving = machine.metadata?.deletionTimestamp !== undefined;
  if (deed === "delete") return leaving ? "It is being deleted already." : "";
  if (leaving) return "It is being deleted.";
  switch (deed) {
    case "start":
      if (live && phase !== "" && phase !== "Unknown") return "It is running already.";
      if (strategy === "Always" || strategy === "Once") return `Its run strategy ${strategy} starts it by itself.`;
      if (strategy === "RerunOnFailure" && phase === "Failed") return "It has failed, and RerunOnFailure starts it again by itself.";
      return "";
    case "stop":
      if (!live && strategy !== "Always" && strategy !== "Once") return "It is not running.";
      return strategy === "Halted" ? "It is stopping already; force stop shortens that." : "";
    case "force-stop":
      return live ? "" : "It is not running.";
    case "restart":
    case "force-restart":
      if (strategy === "Halted" || strategy === "Once") return `Its run strategy ${strategy} allows no restart.`;
      return instance ? "" : "It is not running.";
    case "pause":
      if (!running) return "It is not running.";
      if (instance?.spec?.livenessProbe) return "It has a liveness probe, which a pause would fail.";
      return paused ? "It is paused already." : "";
    case "unpause":
      if (!running) return "It is not running.";
      return paused ? "" : "It is not paused.";
    case "softreboot":
      if (!running) return "It is not running.";
      return paused ? "It is paused." : "";
    case "reset":
      return running ? "" : "It is not running.";
  }
}
