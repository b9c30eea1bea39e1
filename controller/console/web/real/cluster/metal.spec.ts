import { enter, expect, given, kubectl, test } from "../page";

test("a node tells what it has and which machines run there", async ({ page }) => {
  const node = kubectl("get", "vmi/web", "-o", "jsonpath={.status.nodeName}");
  await enter(page, "root", "/nodes");
  await expect(page.getByRole("row", { name: new RegExp(`${node} Ready`) })).toContainText("emulated");
  await page.getByRole("link", { name: node, exact: true }).click();
  await expect(page.getByRole("region", { name: "Machines on it" })).toContainText(`${given.namespace}/web`);
  await expect(page.getByRole("region", { name: "What it can" })).toContainText("takes them");
});

test("who may not list nodes is told so", async ({ page }) => {
  await enter(page, "operator", "/nodes");
  await expect(page.getByRole("alert").filter({ hasText: "nodes is forbidden" })).toBeVisible();
});

test("a server has its state and inventory, and is turned on", async ({ page }) => {
  await enter(page, "root", "/hosts");
  await expect(page.getByRole("row", { name: /rack-1 available/ })).toBeVisible();
  await page.getByRole("link", { name: "rack-1" }).click();
  await expect(page.getByRole("region", { name: "Inventory" })).toContainText(/GiB/);
  await expect(page.getByRole("region", { name: "Sensors" }).getByRole("row", { name: /Inlet Temp.*24 °C OK/ })).toBeVisible();
  await expect(page.getByRole("region", { name: "Event log" })).toContainText("Power supply 2 has lost its input.");
  await page.getByRole("button", { name: "Turn on" }).click();
  await expect(page.getByText("rack-1 is to be on.")).toBeVisible();
  await expect(page.getByRole("region", { name: "Power and BMC" })).toContainText(/Power\s*on/);
});
