/** Events and conditions of several objects on one axis, the newest first. Pure. */

import type { Condition, Event } from "../kinds";

export type Entry = { at: string; kind: "event" | "condition"; about: string; title: string; text: string; warning: boolean; count: number };

/** When an event was last seen. */
export function moment(event: Event): string {
  return event.series?.lastObservedTime ?? event.lastTimestamp ?? event.eventTime ?? event.metadata?.creationTimestamp ?? "";
}

/** Conditions that say trouble when they are true. */
const TROUBLE = ["Failure", "Paused", "RestartRequired"];
/** And those that say it when they are false. */
const WANTED = ["Ready", "Synchronized", "PodScheduled"];
/** A machine that is down is not ready, and nothing is wrong with that. */
const NO_RUN = "VMINotExists";

export function timeline(events: Event[], conditions: { about: string; conditions: Condition[] | undefined }[]): Entry[] {
  const seen = events.map((event): Entry => ({
    at: moment(event),
    kind: "event",
    about: `${event.involvedObject?.kind ?? ""} ${event.involvedObject?.name ?? ""}`.trim(),
    title: event.reason ?? "",
    text: event.message ?? "",
    warning: event.type === "Warning",
    count: event.series?.count ?? event.count ?? 1,
  }));
  const changed = conditions.flatMap(({ about, conditions }) =>
    (conditions ?? []).filter((one) => one.lastTransitionTime).map((one): Entry => ({
      at: one.lastTransitionTime ?? "",
      kind: "condition",
      about,
      title: `${one.type} is ${one.status}`,
      text: [one.reason, one.message].filter(Boolean).join(": "),
      warning: one.status === "True" ? TROUBLE.includes(one.type) : one.status === "False" && WANTED.includes(one.type) && one.reason !== NO_RUN,
      count: 1,
    })),
  );
  return [...seen, ...changed].sort((a, b) => Date.parse(b.at) - Date.parse(a.at));
}
