import { expect, test } from "@playwright/test";

const machine = { metadata: { namespace: "a", name: "kept", resourceVersion: "3" }, spec: { template: {} }, status: { printableStatus: "Running" } };

test("a lost connection is said, what was seen stays, and all is well again by itself", async ({ page }) => {
  let lost = false;
  await page.route("**/console/api/**", (route) => {
    const path = new URL(route.request().url()).pathname.replace("/console/api/", "");
    if (lost) return route.fulfill({ status: 502, json: { message: "the API server could not be reached" } });
    if (path === "session") return route.fulfill({ json: { name: "ann", groups: [] } });
    if (path.startsWith("list/")) return route.fulfill({ json: { metadata: { resourceVersion: "5" }, items: path === "list/virtualmachines" ? [machine] : [] } });
    return route.fulfill({ json: {} });
  });
  await page.goto("./#/vms");
  await expect(page.getByRole("link", { name: "kept" })).toBeVisible();
  lost = true;
  await expect(page.getByRole("alert").filter({ hasText: "Connection lost." })).toContainText("may be out of date");
  await expect(page.getByRole("link", { name: "kept" })).toBeVisible();
  lost = false;
  await expect(page.getByText("Connection lost.")).toBeHidden({ timeout: 20_000 });
});

test("an ended session leads to the log-in, with the reason", async ({ page }) => {
  let ended = false;
  await page.route("**/console/api/**", (route) => {
    if (ended) return route.fulfill({ status: 401, json: { message: "log in first" } });
    const path = new URL(route.request().url()).pathname;
    if (path.endsWith("/session")) return route.fulfill({ json: { name: "ann", groups: [] } });
    return route.fulfill({ json: { metadata: { resourceVersion: "5" }, items: [] } });
  });
  await page.goto("./#/vms");
  await expect(page.getByRole("heading", { name: "Virtual machines" })).toBeVisible();
  ended = true;
  await expect(page.getByText("Your session has ended.")).toBeVisible();
});
