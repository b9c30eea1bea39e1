/** One sentence on why a machine does not run or is not ready: the questions of `kubectl catamaran why`, in its order. Pure. */

import type { Claim, Event, Instance, Machine, Node, Pod } from "../kinds";
import { moment } from "./timeline";
import { condition } from "./rows";

export type Facts = {
  name: string;
  now: number;
  machine: Machine | undefined;
  instance: Instance | undefined;
  pods: Pod[];
  claims: Claim[];
  events: Event[];
  nodes: Node[];
};
export type Answer = { sentence: string; tone: "good" | "quiet" | "busy" | "bad" };

const FINAL = ["Succeeded", "Failed"];
const KVM = "devices.kubevirt.io/kvm";
const IMAGE = ["ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError"];
const MOUNT = ["FailedMount", "FailedAttachVolume"];

const clause = (words: string) => words.trim().replace(/\.+$/, "");
const bad = (sentence: string): Answer => ({ sentence, tone: "bad" });
const busy = (sentence: string): Answer => ({ sentence, tone: "busy" });

type Question = (facts: Facts) => Answer | undefined;

export function why(facts: Facts): Answer {
  const questions: Question[] = [deleted, paused, lost, running, stopping, refused, stopped, unsynchronized, waits];
  for (const question of questions) {
    const answer = question(facts);
    if (answer) return answer;
  }
  const phase = facts.instance?.status?.phase || "unknown";
  return busy(`${facts.name} is starting (phase ${phase}), and nothing is known to be in its way.`);
}

function pod({ pods }: Facts): Pod | undefined {
  return [...pods].sort((a, b) => (b.metadata?.creationTimestamp ?? "").localeCompare(a.metadata?.creationTimestamp ?? ""))[0];
}

function node(facts: Facts): string {
  return facts.instance?.status?.nodeName || pod(facts)?.spec?.nodeName || "";
}

const nodeWords = (facts: Facts) => (node(facts) ? `node ${node(facts)}` : "its node");

/** The newest Warning about an object with one of these reasons. */
function warning({ events }: Facts, kind: string, name: string, reasons: string[]): string | undefined {
  const about = events.filter(
    (event) =>
      event.type === "Warning" && event.involvedObject?.kind === kind && event.involvedObject.name === name && reasons.includes(event.reason ?? ""),
  );
  return about.sort((a, b) => moment(b).localeCompare(moment(a)))[0]?.message;
}

function deleted({ name, machine, instance }: Facts): Answer | undefined {
  if (!machine?.metadata?.deletionTimestamp) return undefined;
  if (instance) return busy(`${name} is being deleted, and its guest is still shutting down.`);
  return busy(`${name} is being deleted, and is held by the finalizers ${(machine.metadata.finalizers ?? []).join(", ")}.`);
}

function paused(facts: Facts): Answer | undefined {
  const told = condition(facts.instance, "Paused", "True");
  if (!told) return undefined;
  const { name } = facts;
  switch (told.reason) {
    case "PausedByUser":
      return { sentence: `${name} is paused because somebody asked for it; Unpause lets it go on.`, tone: "quiet" };
    case "PausedByPanic":
      return bad(`${name} is paused because the guest's kernel has panicked; its kernel log shows its last words.`);
    case "PausedIOError":
      return bad(`${name} is paused because ${nodeWords(facts)} could not write or read a disk: ${clause(told.message ?? "")}.`);
    default:
      return bad(`${name} is paused: ${clause(told.message ?? told.reason ?? "")}.`);
  }
}

function lost(facts: Facts): Answer | undefined {
  if (facts.instance?.status?.phase !== "Running") return undefined;
  const told = condition(facts.instance, "Ready", "False")?.reason === "NodeNotReady";
  const at = facts.nodes.find((one) => one.metadata?.name === node(facts));
  const ready = at?.status?.conditions?.find((one) => one.type === "Ready")?.status;
  if (!told && (at === undefined || ready === "True")) return undefined;
  const silent = at?.spec?.taints?.some((taint) => taint.key === "node.kubernetes.io/unreachable");
  const what = ready === "False" && !silent ? "says that it is not ready" : "does not answer";
  const words = nodeWords(facts);
  return bad(
    `${words.charAt(0).toUpperCase()}${words.slice(1)} ${what}, so nobody knows whether ${facts.name} still runs there; it starts elsewhere only once the node is proved dead.`,
  );
}

function running(facts: Facts): Answer | undefined {
  const { name, instance } = facts;
  if (instance?.status?.phase !== "Running" || instance.metadata?.deletionTimestamp) return undefined;
  if (instance.status.evacuationNodeName) {
    return busy(`${name} is leaving ${nodeWords(facts)} because its pod was deleted or evicted there; its guest is shutting down.`);
  }
  const unready = condition(instance, "Ready", "False");
  if (unready) {
    const probe = warning(facts, "Pod", pod(facts)?.metadata?.name ?? "", ["Unhealthy"]);
    return bad(`${name} runs but is not ready: ${clause(probe ?? unready.message ?? unready.reason ?? "")}.`);
  }
  const restart = condition(facts.machine, "RestartRequired", "True");
  const rest = restart ? "; what was changed of it waits for a restart" : "";
  return { sentence: `${name} runs on ${nodeWords(facts)} and is ready${rest}.`, tone: restart ? "busy" : "good" };
}

function stopping({ name, instance }: Facts): Answer | undefined {
  if (!instance?.metadata?.deletionTimestamp || FINAL.includes(instance.status?.phase ?? "")) return undefined;
  return busy(`${name} is being stopped; its guest has ${instance.spec?.terminationGracePeriodSeconds ?? 30} s to shut down before it is killed.`);
}

function refused({ name, machine, instance }: Facts): Answer | undefined {
  const failure = condition(machine, "Failure", "True");
  if (instance || !failure) return undefined;
  return bad(`${name} does not start because its instance can't be made: ${clause(failure.message ?? failure.reason ?? "the controller does not say why")}.`);
}

function stopped(facts: Facts): Answer | undefined {
  const { name, machine, instance, now } = facts;
  if (instance && !FINAL.includes(instance.status?.phase ?? "")) return undefined;
  const ended = instance?.status?.reason ? clause(instance.status.reason) : "";
  if (!machine) return { sentence: `${name} has ended${ended && `: ${ended}`}.`, tone: "quiet" };
  const strategy = machine.spec?.runStrategy ?? (machine.spec?.running ? "Always" : "Halted");
  const failures = machine.status?.startFailure;
  const count = failures?.consecutiveFailCount ?? 0;
  if (count > 0 && (strategy === "Always" || strategy === "RerunOnFailure" || strategy === "Once")) {
    const said = ended || clause(warning(facts, "VirtualMachineInstance", name, ["Stopped", "FailedCreate", "GuestPanicked", "Failed"]) ?? "");
    const wait = Math.round((Date.parse(String(failures?.retryAfterTimestamp ?? "")) - now) / 1000);
    const next = wait > 0 ? `it is tried again in ${wait} s` : "it is tried again now";
    return bad(`${name} waits because it has failed ${count === 1 ? "once" : "again and again"}, ${count} in a row${said && ` (${said})`}; ${next}.`);
  }
  const quiet = (sentence: string): Answer => ({ sentence, tone: "quiet" });
  if (strategy === "Halted") return quiet(`${name} is stopped because its run strategy is Halted; Start starts it.`);
  if (strategy === "Manual") return quiet(`${name} is stopped because with run strategy Manual it runs only when told to; Start starts it.`);
  if (instance && (strategy === "Once" || strategy === "RerunOnFailure")) {
    return quiet(`${name} has ended${ended && ` after "${ended}"`}, and stays down because its run strategy is ${strategy}.`);
  }
  if (machine.status?.printableStatus === "Stopped") {
    return quiet(`${name} is stopped: its guest shut down or somebody stopped it, and run strategy ${strategy} leaves it so; Start starts it.`);
  }
  return bad(`${name} should run (run strategy ${strategy}) but has no instance; the controller has not looked at it, or does not run.`);
}

function unsynchronized({ name, instance }: Facts): Answer | undefined {
  const told = condition(instance, "Synchronized", "False");
  return told ? bad(`${name} does not start: ${clause(told.message ?? told.reason ?? "")}.`) : undefined;
}

function waits(facts: Facts): Answer | undefined {
  const { name } = facts;
  const at = pod(facts);
  const unscheduled = condition(at, "PodScheduled", "False") ?? (at ? undefined : condition(facts.instance, "PodScheduled", "False"));
  if (unscheduled) return bad(unschedulable(facts, clause(unscheduled.message ?? "")));
  const waiting = at?.status?.containerStatuses?.map((one) => one.state?.waiting).find((one) => IMAGE.includes(one?.reason ?? ""));
  if (waiting) return bad(`${name} does not start because an image can't be pulled: ${clause(waiting.message ?? waiting.reason ?? "")}.`);
  if (!at || at.status?.phase === "Running") return undefined;
  const mount = warning(facts, "Pod", at.metadata?.name ?? "", MOUNT);
  if (mount) return bad(`${name} does not start because a volume of its pod can't be mounted: ${clause(mount)}.`);
  const sandbox = warning(facts, "Pod", at.metadata?.name ?? "", ["FailedCreatePodSandBox"]);
  if (sandbox) return bad(`${name} does not start because ${nodeWords(facts)} can't set up its pod: ${clause(sandbox)}.`);
  return node(facts) ? busy(`${name} is starting: its pod is being prepared on ${nodeWords(facts)}.`) : undefined;
}

function unschedulable(facts: Facts, words: string): string {
  const begin = `${facts.name} does not start because`;
  if (/persistentvolumeclaim/i.test(words)) return `${begin} ${unbound(facts, words)}.`;
  if (words.includes(`Insufficient ${KVM}`)) {
    return `${begin} no node that could take it offers KVM (${words}); without KVM guests run only where the KubeVirt object says so (spec.configuration.developerConfiguration.useEmulation), and a machine that waits takes that up by a restart.`;
  }
  if (facts.nodes.length > 0 && facts.nodes.every((one) => one.spec?.unschedulable)) return `${begin} every node is cordoned (${words}).`;
  for (const [resource, what] of [["memory", "memory"], ["cpu", "processors"]] as const) {
    if (!words.includes(`Insufficient ${resource}`)) continue;
    const asked = pod(facts)?.spec?.containers?.map((one) => one.resources?.requests?.[resource]).find(Boolean);
    return `${begin} no node has the ${what} left that it asks for${asked ? ` (${asked})` : ""}: ${words}.`;
  }
  return `${begin} no node takes it: ${words}.`;
}

function unbound(facts: Facts, words: string): string {
  const wanted = (facts.instance?.spec?.volumes ?? []).map((one) => one.persistentVolumeClaim?.claimName ?? one.dataVolume?.name);
  const claim = facts.claims.find((one) => wanted.includes(one.metadata?.name) && one.status?.phase && one.status.phase !== "Bound");
  const name = claim?.metadata?.name;
  if (!name) return `a claim is not ready: ${words}`;
  const said = warning(facts, "PersistentVolumeClaim", name, ["ProvisioningFailed", "FailedBinding", "VolumeMismatch"]);
  return `claim "${name}" is not bound to a volume${said ? `: ${clause(said)}` : ""}`;
}
