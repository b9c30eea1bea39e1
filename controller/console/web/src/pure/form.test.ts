import { expect, test } from "vitest";
import { begun, placed, read, write, type Field } from "./form";

const filled = (...pairs: [Field, string][]) => pairs.reduce<object>((object, [field, value]) => write(object, field, value), begun("a"));

test("what is written into a field is read from it again", () => {
  const pairs: [Field, string][] = [
    ["name", "web"], ["namespace", "b"], ["strategy", "Manual"], ["cores", "4"], ["memory", "8Gi"], ["image", "x/y:1"], ["userData", "#cloud-config\n"], ["network", "none"],
  ];
  const form = read(filled(...pairs));
  for (const [field, value] of pairs) expect([field, form[field]]).toEqual([field, value]);
});

test("an instance type takes the place of a size, and the other way round", () => {
  const typed = write(begun("a"), "type", "VirtualMachineClusterInstancetype/u1.small");
  expect(typed).toMatchObject({ spec: { instancetype: { name: "u1.small" } } });
  expect(JSON.stringify(typed)).not.toMatch(/"cpu"|"memory"/);
  expect(read(typed).type).toBe("VirtualMachineClusterInstancetype/u1.small");
  expect(read(write(typed, "type", ""))).toMatchObject({ type: "", cores: "1", memory: "1Gi" });
  expect(write(begun("a"), "type", "VirtualMachineInstancetype/own")).toMatchObject({ spec: { instancetype: { kind: "VirtualMachineInstancetype", name: "own" } } });
});

test("a claim takes the place of the image at the same disk", () => {
  const claimed = filled(["image", "x"], ["from", "claim"], ["claim", "data"]);
  expect(read(claimed)).toMatchObject({ from: "claim", claim: "data", image: "" });
  expect(claimed).toMatchObject({ spec: { template: { spec: { volumes: [{ name: "root", persistentVolumeClaim: { claimName: "data" } }], domain: { devices: { disks: [{ name: "root" }] } } } } } });
});

test("cloud-init has a volume and a disk as long as there is user data, here or in a Secret", () => {
  const seeded = filled(["userData", "#cloud-config"]);
  expect(seeded).toMatchObject({ spec: { template: { spec: { volumes: [{}, { cloudInitNoCloud: { userData: "#cloud-config" } }], domain: { devices: { disks: [{}, { name: "cloud-init" }] } } } } } });
  const secret = write(seeded, "userDataSecret", "web-user-data");
  expect(read(secret)).toMatchObject({ userData: "", userDataSecret: "web-user-data" });
  expect(write(seeded, "userData", "")).toEqual(begun("a"));
});

test("what the form does not know stays as it was typed", () => {
  const object = begun("a");
  (object.spec as { template: { spec: { volumes: unknown[] } } }).template.spec.volumes.push({ name: "more", emptyDisk: { capacity: "1Gi" } });
  const next = write(write(object, "image", "x"), "userData", "y");
  expect(next).toMatchObject({ spec: { template: { spec: { volumes: [{ name: "root" }, { name: "more", emptyDisk: { capacity: "1Gi" } }, { name: "cloud-init" }] } } } });
});

test("an object of another shape is read without a failure", () => {
  expect(read({ spec: "no", metadata: null })).toMatchObject({ name: "", image: "", network: "none" });
  expect(write({ spec: "no" }, "cores", "2")).toMatchObject({ spec: { template: { spec: { domain: { cpu: { cores: 2 } } } } } });
});

test("errors of the server land on their fields, and the rest is told", () => {
  const object = filled(["image", "x"], ["userData", "y"]);
  const at = (...fields: string[]) => placed(fields.map((field) => ({ field, message: "no" })), object);
  expect(at("metadata.namespace", "metadata.name").fields).toEqual({ namespace: "no", name: "no" });
  expect(at("spec.template.spec.domain.memory.guest", "spec.template.spec.domain.resources.requests[memory]").fields).toEqual({ memory: "no; no" });
  expect(at("spec.template.spec.volumes[0].containerDisk.image", "spec.template.spec.volumes[1]").fields).toEqual({ image: "no", userData: "no" });
  expect(at("spec.template.spec.tolerations[0]").others).toEqual([{ field: "spec.template.spec.tolerations[0]", message: "no" }]);
});
