import { NARROW, accessible, expect, fits, open, test } from "./page";

test("the overview tells what is specified, what runs, and why", async ({ page }) => {
  await open(page, "/vms/shop/queue");
  await expect(page.getByText("queue runs on node node-2 and is ready; what was changed of it waits for a restart.")).toBeVisible();
  await expect(page.getByRole("row", { name: "Memory 6 GiB 4 GiB differs" })).toBeVisible();
  await expect(page.getByRole("region", { name: "Disks" })).toContainText("image registry.example/debian:13");
  await expect(page.getByRole("region", { name: "Network" })).toContainText("10.42.2.33");
  await expect(page.getByRole("region", { name: "Guest" })).toContainText("Debian GNU/Linux 13");
  await expect(page.getByRole("link", { name: "Open the screen of queue" })).toBeVisible();
  const usage = page.getByRole("region", { name: "Last 15 minutes" });
  await expect(usage.getByRole("img", { name: /^Processors, last 15 minutes: [0-9.]+ of 2 busy$/ })).toBeVisible();
  await expect(usage.getByRole("img")).toHaveCount(4);
  await expect(usage.getByRole("link", { name: "More in Grafana" })).toHaveAttribute("href", "https://grafana.example.org/d/catamaran-machines?var-namespace=shop&var-name=queue");
  await accessible(page);
});

test("the one reason that is in the way is said", async ({ page }) => {
  await open(page, "/vms/lab/huge");
  await expect(page.getByText(/huge does not start because no node has the memory left/)).toBeVisible();
  await open(page, "/vms/lab/crashing");
  await expect(page.getByText(/crashing waits because it has failed again and again, 4 in a row \(the guest's kernel panicked/)).toBeVisible();
});

test("events and conditions are on one axis", async ({ page }) => {
  await open(page, "/vms/lab/huge?tab=events");
  const axis = page.getByRole("list", { name: "Timeline" });
  await expect(axis.getByRole("listitem").filter({ hasText: "FailedScheduling" })).toContainText("× 12");
  await expect(axis.getByRole("listitem").filter({ hasText: "Ready is False" })).toBeVisible();
  await accessible(page);
});

test("YAML is edited, checked by the server and saved", async ({ page }) => {
  await open(page, "/vms/shop/db?tab=yaml");
  await expect(page.getByLabel("YAML", { exact: true })).toContainText("guest: 16Gi");
  await page.getByRole("button", { name: "Edit" }).click();
  const text = page.getByRole("textbox", { name: "YAML of the machine" });
  const before = await text.inputValue();
  await text.fill(before.replace("guest: 16Gi", "guest: lots"));
  await page.getByRole("button", { name: "Check" }).click();
  await expect(page.getByRole("alert").filter({ hasText: "must be a quantity" })).toContainText("spec.template.spec.domain.memory.guest");
  await text.fill(before.replace("guest: 16Gi", "guest: 24Gi"));
  await page.getByRole("button", { name: "Check" }).click();
  await expect(page.getByText("The server would take it.")).toBeVisible();
  await accessible(page);
  await page.getByRole("button", { name: "Save" }).click();
  await expect(page.getByLabel("YAML", { exact: true })).toContainText("guest: 24Gi");
});

test("the guest's kernel log is shown", async ({ page }) => {
  await open(page, "/vms/shop/db");
  await page.getByRole("button", { name: "Kernel log" }).click();
  await expect(page.getByRole("dialog", { name: "Kernel log of db" })).toContainText("Linux version");
  await accessible(page);
});

test("a machine that is not there is said", async ({ page }) => {
  await open(page, "/vms/shop/nothing");
  await expect(page.getByText("There is no virtual machine nothing in namespace shop.")).toBeVisible();
});

test("a machine fits a narrow window", async ({ page }) => {
  await page.setViewportSize(NARROW);
  await open(page, "/vms/lab/huge");
  await expect(page.getByText(/huge does not start/)).toBeVisible();
  await fits(page);
  await accessible(page);
});
