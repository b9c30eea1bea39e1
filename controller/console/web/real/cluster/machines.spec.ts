import { type Page } from "@playwright/test";
import { BOOT, create, enter, expect, given, kubectl, machine, narrow, test } from "../page";

/** Presses a button of a machine's page, and says yes where it asks. */
async function press(page: Page, deed: string, asked: boolean): Promise<void> {
  await page.getByRole("button", { name: deed, exact: true }).click();
  if (asked) await page.getByRole("dialog").getByRole("button", { name: deed, exact: true }).click();
}

test("the list shows what others do, without being asked again", async ({ page }) => {
  await enter(page, "operator");
  await narrow(page);
  const list = page.getByRole("table", { name: "Virtual machines" });
  await expect(list.getByRole("link", { name: "web", exact: true })).toBeVisible();
  const { apiVersion, kind, spec } = JSON.parse(kubectl("get", "vm/idle", "-o", "json")) as Record<string, unknown>;
  create({ apiVersion, kind, metadata: { name: "passing" }, spec });
  const row = list.getByRole("row").filter({ has: page.getByRole("link", { name: "passing" }) });
  await expect(row).toContainText("Stopped");
  kubectl("delete", "vm/passing", "--wait=false");
  await expect(row).toBeHidden();
});

test("a machine is started, restarted and stopped, and its state followed", async ({ page }) => {
  await enter(page, "operator", machine("idle"));
  const state = page.getByRole("main");
  await expect(page.getByRole("button", { name: /^Stop \(not possible: It is not running/ })).toBeVisible();
  await press(page, "Start", false);
  await expect(page.getByText(`${given.namespace}/idle was started.`)).toBeVisible();
  await expect(state).toContainText(/idle runs on node node[0-9]/, { timeout: BOOT });
  const first = kubectl("get", "vmi/idle", "-o", "jsonpath={.metadata.uid}");
  await press(page, "Restart", true);
  await expect(page.getByText(`${given.namespace}/idle was asked to restart.`)).toBeVisible();
  await expect(() => expect(kubectl("get", "vmi/idle", "--ignore-not-found", "-o", "jsonpath={.metadata.uid}/{.status.phase}")).toMatch(new RegExp(`^(?!${first}).+/Running$`))).toPass({ timeout: BOOT });
  await expect(state).toContainText(/idle runs on node node[0-9]/, { timeout: BOOT });
  await press(page, "Stop", true);
  await expect(page.getByText(`${given.namespace}/idle was asked to stop.`)).toBeVisible();
  await expect(page.getByRole("button", { name: "Start", exact: true })).toBeEnabled({ timeout: BOOT });
  await expect(page.getByRole("button", { name: /^Stop \(not possible: It is not running/ })).toBeVisible({ timeout: BOOT });
});

test("what a machine used is drawn, on its page and in the list", async ({ page }) => {
  await enter(page, "viewer", machine("web"));
  const usage = page.getByRole("region", { name: "Last 15 minutes" });
  await expect(usage.getByRole("img", { name: /^Processors, last 15 minutes: [0-9.]+ of 1 busy$/ })).toBeVisible({ timeout: BOOT });
  await expect(usage).toContainText(/MiB of .* (used|held on the node)/);
  await page.goto("./#/vms");
  await expect(page.getByRole("row").filter({ has: page.getByRole("link", { name: "web", exact: true }) }).getByRole("img", { name: /^Processors: / })).toBeVisible();
});
