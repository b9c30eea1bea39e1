import { create, enter, expect, given, kubectl, lines, machine, shell, test, type } from "../page";

/** Within this a console closes when its right is taken away, ms. */
const REVOKED = 10_000;
const SYSTEM = "catamaran-system";

test("a console closes within ten seconds when the right to it is taken away", async ({ page }) => {
  await enter(page, "leaving", machine("web", "console"));
  const serial = await shell(page, "web");
  kubectl("delete", "rolebinding/leaving");
  await expect(serial.getByRole("status")).toContainText("Disconnected", { timeout: REVOKED });
  await expect(serial.getByRole("alert")).toContainText(/right|may not|cannot|forbidden/);
});

test("an admin ends another's session, which is told so", async ({ page, browser }) => {
  const context = await browser.newContext();
  const other = await context.newPage();
  await enter(other, "visitor", "/vms");
  await enter(page, "root", "/sessions");
  await page.getByRole("button", { name: `End the session of system:serviceaccount:${given.namespace}:visitor` }).click();
  await page.getByRole("button", { name: "End it" }).click();
  await expect(other.getByText("Your session has ended.")).toBeVisible();
  await context.close();
});

test("the page and its console recover by themselves when all controllers are replaced", async ({ page }) => {
  await enter(page, "operator", machine("web", "console"));
  const serial = await shell(page, "web");
  const old = kubectl("--namespace", SYSTEM, "get", "pod", "--selector", "kubevirt.io=virt-controller", "-o", "name").trim().split("\n");
  kubectl("--namespace", SYSTEM, "delete", ...old);
  await expect(serial.getByRole("status")).toContainText("Connected");
  await type(page, "web", "echo again-$((6*6))");
  await expect(lines(serial)).toContainText("again-36");
  await page.getByRole("link", { name: "VMs", exact: true }).first().click();
  const { apiVersion, kind, spec } = JSON.parse(kubectl("get", "vm/idle", "-o", "json")) as Record<string, unknown>;
  create({ apiVersion, kind, metadata: { name: "later" }, spec });
  await expect(page.getByRole("link", { name: "later" })).toBeVisible();
  await expect(page.getByText("Connection lost.")).toBeHidden();
});
