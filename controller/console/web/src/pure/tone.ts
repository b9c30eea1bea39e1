/** The colour of a status word. The word is always there too: colour alone says nothing. Pure. */

export type Tone = "good" | "busy" | "bad" | "quiet";

const GOOD = ["Running", "Ready", "OK", "provisioned", "available", "On", "externally provisioned", "yes"];
const BUSY = [
  "Starting", "Stopping", "Terminating", "Migrating", "Provisioning", "WaitingForVolumeBinding", "Paused", "registering", "inspecting",
  "preparing", "provisioning", "deprovisioning", "deleting", "powering off before delete", "Cordoned", "delayed", "Reconnecting", "Warning",
];

export function tone(word: string): Tone {
  if (GOOD.includes(word)) return "good";
  if (BUSY.includes(word)) return "busy";
  if (/^Err|Error|BackOff|NotReady|Not ready|Lost|Fenced|^error$|^Critical$/.test(word)) return "bad";
  return "quiet";
}
