import { expect, test } from "vitest";
import type { Instance, Machine } from "../kinds";
import { progress, words } from "./progress";
import { type Deed, hindered } from "./verbs";

const machine = (runStrategy: string) => ({ metadata: {}, spec: { runStrategy, template: {} } }) as unknown as Machine;
const run = (phase: string, more: object = {}) => ({ metadata: {}, spec: { domain: { devices: {} } }, status: { phase, ...more } }) as unknown as Instance;
const why = (deed: Deed, strategy: string, instance?: Instance) => hindered(deed, { machine: machine(strategy), instance }, undefined);

test("a machine that runs is not started again, and one that is down not stopped", () => {
  expect(why("start", "Halted")).toBe("");
  expect(why("start", "Halted", run("Running"))).toBe("It is running already.");
  expect(why("start", "Always")).toContain("starts it by itself");
  expect(why("stop", "Always")).toBe("");
  expect(why("stop", "Manual")).toBe("It is not running.");
  expect(why("stop", "Manual", run("Succeeded"))).toBe("It is not running.");
});

test("a restart needs a run and a strategy that allows it", () => {
  expect(why("restart", "Always", run("Running"))).toBe("");
  expect(why("restart", "Always")).toBe("It is not running.");
  expect(why("restart", "Halted", run("Running"))).toContain("allows no restart");
});

test("pausing is for running machines without liveness probes, unpausing for paused ones", () => {
  const paused = run("Running", { conditions: [{ type: "Paused", status: "True" }] });
  expect(why("pause", "Always", run("Running"))).toBe("");
  expect(why("pause", "Always", paused)).toBe("It is paused already.");
  expect(why("unpause", "Always", paused)).toBe("");
  expect(why("unpause", "Always", run("Running"))).toBe("It is not paused.");
  expect(why("softreboot", "Always", paused)).toBe("It is paused.");
});

test("a missing right comes before the state, and rights that are not known forbid nothing", () => {
  const rights = { allowed: { machines: ["start"], virtualmachines: ["list"] } };
  const subject = { machine: machine("Halted"), instance: undefined };
  expect(hindered("start", subject, rights)).toBe("");
  expect(hindered("force-stop", subject, rights)).toBe("You may not force stop machines here.");
  expect(hindered("delete", subject, rights)).toBe("You may not delete machines here.");
  expect(hindered("delete", subject, undefined)).toBe("");
});

test("progress is told against the deadline, and that it is overdue", () => {
  const at = Date.parse("2026-01-01T00:00:12Z");
  const leaving = { ...run("Running"), metadata: { deletionTimestamp: "2026-01-01T00:00:00Z" } } as unknown as Instance;
  leaving.spec!.terminationGracePeriodSeconds = 180;
  expect(words(progress(machine("Halted"), leaving, at)!)).toBe("stopping… 12 s of 180 s");
  expect(words(progress(machine("Halted"), leaving, at + 200_000)!)).toBe("stopping… 212 s, overdue by 32 s");
  expect(progress(machine("Always"), run("Running"), at)).toBeUndefined();
});
