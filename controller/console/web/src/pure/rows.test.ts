import { expect, test } from "vitest";
import { Lines } from "./lines";
import { changed } from "../live";
import { age, filtered, rows, sorted } from "./rows";

const machine = (namespace: string, name: string, printableStatus: string) => ({
  metadata: { namespace, name },
  spec: { template: { spec: { domain: { devices: {} } } } },
  status: { printableStatus },
});
const instance = {
  metadata: { namespace: "b", name: "web" },
  spec: { domain: { devices: {} } },
  status: {
    nodeName: "n1",
    interfaces: [{ ipAddress: "10.0.0.5", ipAddresses: ["10.0.0.5", "fd00::5"] }, { ipAddress: "10.1.0.5" }],
  },
};
const all = rows(
  [machine("b", "web", "Running"), machine("a", "db", "Stopped")],
  new Map([["b/web", instance]]),
);

test("a machine's row has its instance's node and each address once", () => {
  expect(all.map((row) => row.key)).toEqual(["a/db", "b/web"]);
  expect(all[1]).toMatchObject({ status: "Running", node: "n1", addresses: ["10.0.0.5", "fd00::5", "10.1.0.5"] });
  expect(all[0]).toMatchObject({ node: "", addresses: [] });
});

test("a machine without a status is unknown", () => {
  const [row] = rows([{ ...machine("a", "new", ""), status: undefined }], new Map());
  expect(row?.status).toBe("Unknown");
});

const none = { text: "", status: "", node: "", label: "" };

test("every word of a filter must be found", () => {
  expect(filtered(all, { ...none, text: "RUN n1" }).map((row) => row.name)).toEqual(["web"]);
  expect(filtered(all, { ...none, text: "run stopped" })).toEqual([]);
  expect(filtered(all, { ...none, text: " " })).toHaveLength(2);
});

test("an age is in its largest unit", () => {
  const at = (seconds: number) => age("2026-01-01T00:00:00Z", Date.parse("2026-01-01T00:00:00Z") + seconds * 1000);
  expect([at(-5), at(119), at(120), at(7200), at(172800)]).toEqual(["0s", "119s", "2m", "2h", "2d"]);
  expect(age("", 0)).toBe("");
});

test("lines are whole even where a chunk ends within a letter", () => {
  const bytes = new TextEncoder().encode('{"a":"é"}\n\n{"b":1}\n');
  const lines = new Lines();
  expect([...lines.take(bytes.slice(0, 7)), ...lines.take(bytes.slice(7))]).toEqual(['{"a":"é"}', '{"b":1}']);
});

test("changes replace and remove objects, and bookmarks do neither", () => {
  const one = { metadata: { namespace: "a", name: "db", resourceVersion: "1" } };
  const two = { metadata: { ...one.metadata, resourceVersion: "2" } };
  const added = changed(new Map(), { type: "ADDED", object: one });
  const modified = changed(added, { type: "MODIFIED", object: two });
  expect(modified.get("a/db")).toBe(two);
  expect(changed(modified, { type: "BOOKMARK", object: one })).toEqual(modified);
  expect(changed(modified, { type: "DELETED", object: two }).size).toBe(0);
});

test("a label filters by its value or by being there", () => {
  const [row] = all;
  const labelled = [{ ...row!, labels: { app: "web", "a/b": "" } }];
  const found = (label: string) => filtered(labelled, { ...none, label }).length;
  expect([found("app=web"), found("app"), found("app=db"), found("a/b, app=web"), found("tier")]).toEqual([1, 1, 0, 1, 0]);
});

test("rows are sorted by numbers within names, both ways", () => {
  const named = ["n10", "n9", "n1"].map((name) => ({ ...all[0]!, name }));
  expect(sorted(named, "name").map((row) => row.name)).toEqual(["n1", "n9", "n10"]);
  expect(sorted(named, "-name").map((row) => row.name)).toEqual(["n10", "n9", "n1"]);
  expect(sorted(named, "nonsense")).toBe(named);
});
