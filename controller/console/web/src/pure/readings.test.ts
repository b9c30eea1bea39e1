import { expect, test } from "vitest";
import type { DataImage, Host, Sensor } from "../kinds";
import { bootsOnce, bounds, cannotBootOnce, media, older, reading, sensorGroups, written, wrongImage } from "./readings";

const sensor = (name: string, type: string, more: Partial<Sensor> = {}): Sensor => ({ name, type, unit: "°C", ...more });
const host = (state: string, more: object = {}): Host => ({ metadata: { namespace: "m", name: "r" }, status: { provisioning: { state, ...more } } });
const all = { allowed: { dataimages: ["create", "delete"], baremetalhosts: ["patch"] } };

test("sensors are grouped by what they measure, and what is wrong comes first", () => {
  const groups = sensorGroups([sensor("a", "fan", { health: "OK" }), sensor("b", "temperature"), sensor("c", "fan", { health: "Critical" }), sensor("d", "humidity")]);
  expect(groups.map((group) => [group.title, group.alarming, group.sensors.map((one) => one.name)])).toEqual([
    ["Temperatures", false, ["b"]], ["Fans", true, ["c", "a"]], ["Others", false, ["d"]],
  ]);
});

test("readings have their unit, and bounds their words", () => {
  expect(reading(sensor("a", "power", { reading: 12.1044, unit: "V" }))).toBe("12.1 V");
  expect(reading(sensor("a", "fan", { reading: 7320.4, unit: "RPM" }))).toBe("7320 RPM");
  expect(reading(sensor("a", "fan"))).toBe("–");
  expect(bounds(sensor("a", "temperature", { caution: { high: 42 }, critical: { low: -7, high: 47 } }))).toBe("warning above 42, critical below -7, critical above 47");
  expect(bounds(sensor("a", "fan", { caution: {}, critical: {} }))).toBe("");
});

test("times are the BMC's own", () => {
  const at = (created?: string) => written({ id: "1", message: "", ...(created ? { created } : {}) });
  expect([at("2026-03-02T09:41:00Z"), at("2026-03-02T09:41:00-06:00"), at()]).toEqual(["2026-03-02 09:41:00 UTC", "2026-03-02 09:41:00-06:00", "no time"]);
});

test("older entries come once, though the log went on meanwhile", () => {
  const entry = (id: string) => ({ id, message: id });
  const ids = (all: { id: string }[]) => all.map((one) => one.id);
  expect(ids(older([entry("4"), entry("3")], [entry("3"), entry("2")]))).toEqual(["4", "3", "2"]);
  expect(ids(older([entry("4")], [entry("4")]))).toEqual(["4"]);
});

test("media tell what is in, what comes at the next start, and why not", () => {
  const image: DataImage = { metadata: { name: "r" }, spec: { url: "http://x/a.iso" } };
  expect(media(host("provisioned"), undefined, all)).toMatchObject({ inserted: "", pending: "", cannotInsert: "", cannotEject: "Nothing was inserted." });
  expect(media(host("provisioned"), image, all)).toMatchObject({ inserted: "", pending: "http://x/a.iso is inserted at its next start.", cannotInsert: "Eject what was inserted first.", cannotEject: "" });
  const inside: DataImage = { ...image, status: { attachedImage: { url: "http://x/a.iso" } } };
  expect(media(host("provisioned"), inside, all)).toMatchObject({ inserted: "http://x/a.iso", pending: "" });
  const leaving = { ...inside, metadata: { name: "r", deletionTimestamp: "2026-01-01T00:00:00Z" } };
  expect(media(host("provisioned"), leaving, all)).toMatchObject({ pending: "It is ejected at its next start.", cannotEject: "It is being ejected already." });
  expect(media(host("available"), undefined, all).cannotInsert).toMatch(/in use/);
  expect(media(host("provisioned", { image: { format: "live-iso" } }), undefined, all).cannotInsert).toMatch(/live ISO/);
  expect(media(host("provisioned"), inside, { allowed: {} })).toMatchObject({ cannotInsert: "You may not insert media here.", cannotEject: "You may not eject media here." });
});

test("an image is a URL that BMCs take", () => {
  expect(["http://x/a.iso", "http://x/a.iso?b", "ftp://x/a", "x"].map((url) => wrongImage(url) === "")).toEqual([true, false, false, false]);
});

test("what a server boots from is asked for where nothing else decides it", () => {
  expect(bootsOnce({ metadata: { annotations: { "catamaran.dev/boot-once": "pxe" } } })).toBe("pxe");
  expect(cannotBootOnce(host("available"), all)).toBe("");
  expect(cannotBootOnce(host("inspecting"), all)).toMatch(/It is inspecting/);
  expect(cannotBootOnce(host("provisioned", { image: { format: "live-iso" } }), all)).toMatch(/live ISO/);
  expect(cannotBootOnce(host("available"), { allowed: {} })).toMatch(/may not/);
});
