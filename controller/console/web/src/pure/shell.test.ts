import { expect, test } from "vitest";
import { score } from "./matching";
import { bytes, counted, quantity } from "./quantity";
import { format, parse } from "./route";
import { tone } from "./tone";
import { span } from "./windowing";

test("an address is read back as it was written", () => {
  const hash = format(["vms", "a/b", "ü"], { tab: "yaml", q: "x y&z", none: "" });
  expect(parse(hash)).toEqual({ words: ["vms", "a/b", "ü"], query: { tab: "yaml", q: "x y&z" } });
  expect(parse("")).toEqual({ words: [], query: {} });
  expect(parse("#/vms/%E0%A4%A").words).toEqual(["vms", "%E0%A4%A"]);
});

test("quantities are numbers, and what is none is not", () => {
  expect([quantity("512Mi"), quantity("250m"), quantity("2"), quantity("1k"), quantity("1e3")]).toEqual([2 ** 29, 0.25, 2, 1000, 1000]);
  expect([quantity("much"), quantity(""), quantity(undefined), quantity("5Xi")]).toEqual([NaN, NaN, NaN, NaN]);
});

test("bytes are in their largest unit", () => {
  expect([bytes(0), bytes(1023), bytes(2 ** 31), bytes(1.5 * 2 ** 30), bytes(NaN)]).toEqual(["0 B", "1023 B", "2 GiB", "1.5 GiB", ""]);
  expect([counted(1, "CPU"), counted(2, "CPU")]).toEqual(["1 CPU", "2 CPUs"]);
});

test("short lists are drawn whole, and of long ones what is near the view", () => {
  expect(span(100, 40, 0, 800)).toEqual({ from: 0, to: 100, before: 0, after: 0 });
  const { from, to, before, after } = span(2000, 40, 40_000, 800);
  expect([from, to]).toEqual([988, 1032]);
  expect(before + (to - from) * 40 + after).toBe(2000 * 40);
  expect(span(2000, 40, 10 ** 7, 800).to).toBe(2000);
});

test("what fits better comes first, and what does not fit is out", () => {
  expect(score("restart web-1", "restart web")).toBeGreaterThan(score("restart webserver-old-1", "rweb1"));
  expect(score("nodes", "ndx")).toBe(0);
  expect(score("anything", "")).toBeGreaterThan(0);
});

test("trouble is told from what is only on its way", () => {
  expect(["Running", "Starting", "CrashLoopBackOff", "ErrorUnschedulable", "ErrImagePull", "Stopped"].map(tone)).toEqual(["good", "busy", "bad", "bad", "bad", "quiet"]);
});
