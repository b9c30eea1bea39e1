import { accessible, expect, open, test } from "./page";

test("a machine is made from the form, and runs", async ({ page }) => {
  await open(page, "/create?ns=shop");
  await page.getByLabel("Name", { exact: true }).fill("fresh");
  await page.getByLabel("Instance type").selectOption({ label: "u1.medium (2 CPUs, 4 GiB)" });
  await page.getByLabel("Preference").selectOption({ label: "linux" });
  await page.getByLabel("Image").fill("registry.example/debian:13");
  await page.getByLabel("cloud-init user data").fill("#cloud-config\nhostname: fresh\n");
  await expect(page.getByText("The server would take it.")).toBeVisible();
  await expect(page.getByLabel("YAML")).toHaveValue(/instancetype:\n {4}name: u1.medium/);
  await accessible(page);
  await page.getByRole("button", { name: "Create" }).click();
  await expect(page.getByRole("heading", { name: "fresh" })).toBeVisible();
  await expect(page.getByText(/fresh runs on node node-2 and is ready/)).toBeVisible({ timeout: 15_000 });
});

test("a wrong input lands on its field, by the server's own check", async ({ page }) => {
  await open(page, "/create?ns=shop");
  await page.getByLabel("Name", { exact: true }).fill("Not_A_Name");
  await page.getByLabel("Image").fill("x");
  await page.getByLabel("Memory").fill("a lot");
  await expect(page.getByLabel("Name", { exact: true })).toHaveAccessibleDescription(/must be lower-case letters/);
  await expect(page.getByLabel("Memory")).toHaveAccessibleDescription(/must be a quantity/);
  await accessible(page);
  await page.getByLabel("Memory").fill("2Gi");
  await expect(page.getByLabel("Memory")).toHaveAccessibleDescription("A quantity such as 2Gi");
  await page.getByLabel("Name", { exact: true }).fill("db");
  await page.getByRole("button", { name: "Create" }).click();
  await expect(page.getByLabel("Name", { exact: true })).toHaveAccessibleDescription("already exists");
  await expect(page.getByLabel("Name", { exact: true })).toBeFocused();
});

test("YAML and form are two views of one machine", async ({ page }) => {
  await open(page, "/create?ns=shop");
  const yaml = page.getByLabel("YAML");
  await yaml.fill((await yaml.inputValue()).replace('name: ""', "name: typed").replace("guest: 1Gi", "guest: 3Gi"));
  await expect(page.getByLabel("Name", { exact: true })).toHaveValue("typed");
  await expect(page.getByLabel("Memory")).toHaveValue("3Gi");
  await page.getByLabel("Processors").fill("6");
  await expect(yaml).toHaveValue(/cores: 6/);
  await yaml.fill("metadata: [");
  await expect(yaml).toHaveAccessibleDescription(/line 1/);
  await expect(page.getByLabel("Processors")).toBeDisabled();
});

test("a file fills the form", async ({ page }) => {
  await open(page, "/create?ns=shop");
  const vm = { apiVersion: "kubevirt.io/v1", kind: "VirtualMachine", metadata: { name: "filed" }, spec: { runStrategy: "Always", template: { spec: { domain: { cpu: { cores: 3 }, devices: {} } } } } };
  await page.getByLabel("From a file").setInputFiles({ name: "filed.yaml", mimeType: "text/yaml", buffer: Buffer.from(JSON.stringify(vm)) });
  await expect(page.getByLabel("Name", { exact: true })).toHaveValue("filed");
  await expect(page.getByLabel("Processors")).toHaveValue("3");
  await expect(page.getByLabel("YAML")).toHaveValue(/namespace: shop/);
  const pod = "apiVersion: v1\nkind: Pod\n";
  await page.getByLabel("From a file").setInputFiles({ name: "pod.yaml", mimeType: "text/yaml", buffer: Buffer.from(pod) });
  await expect(page.getByLabel("YAML")).toHaveAccessibleDescription("pod.yaml: has a Pod, and the form makes VirtualMachines");
  await page.getByLabel("From a file").setInputFiles({ name: "two.yaml", mimeType: "text/yaml", buffer: Buffer.from(`${pod}---\n${pod}`) });
  await expect(page.getByLabel("YAML")).toHaveAccessibleDescription(/two.yaml: has several documents/);
  await page.getByLabel("From a file").setInputFiles({ name: "filed.yaml", mimeType: "text/yaml", buffer: Buffer.alloc(2 * 1024 * 1024) });
  await expect(page.getByLabel("YAML")).toHaveAccessibleDescription(/filed.yaml: has 2 MiB/);
  await accessible(page);
});

test("user data is kept in a Secret where that is wished", async ({ page }) => {
  await open(page, "/create?ns=shop");
  await page.getByLabel("Name", { exact: true }).fill("quiet");
  await page.getByLabel("cloud-init user data").fill("#cloud-config\npassword: hidden\n");
  await page.getByLabel(/Keep it in a Secret/).check();
  await expect(page.getByLabel("YAML")).toHaveValue(/secretRef:\n +name: quiet-user-data/);
  await expect(page.getByLabel("YAML")).not.toHaveValue(/hidden/);
  await expect(page.getByLabel("cloud-init user data")).toHaveValue(/hidden/);
});
