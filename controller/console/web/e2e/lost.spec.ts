import { expect, test } from "@playwright/test";

const machine = { metadata: { namespace: "a", name: "kept", resourceVersion: "3" }, spec: { template: {} }, status: { printableStatus: "Running" } };

test("a lost connection is said, what was seen stays, and all is well again by itself", async ({ page }) => {
  let lost = false;
  await page.route("**/console/api/**", (route) => {
    const path = new URL(route.request().url()).pathname.replace("/console/api/", "");
    if (lost) return route.fulfill({ status: 502, json: { message: "the API server could not be reached" } });
    if (path === "session") return route.fulfill({ json: { name: "ann", groups: [] } });
    if (path.startsWith("list/")) return route.fulfill({ json: { metadata: { resourceVersion: "5" }, items: path === "list/virtualmachines" ? [machine] : [] } });
    return route.fulfill({ json: { allowed: {} } });
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
    return route.fulfill({ json: { metadata: { resourceVersion: "5" }, items: [], allowed: {} } });
  });
  await page.goto("./#/vms");
  await expect(page.getByRole("heading", { name: "Virtual machines" })).toBeVisible();
  ended = true;
  await expect(page.getByText("Your session has ended.")).toBeVisible();
});

test("a token in the fragment logs in and leaves the URL, and one computer has no pages of a cluster", async ({ page }) => {
  const tokens: string[] = [];
  await page.route("**/console/api/**", (route) => {
    const path = new URL(route.request().url()).pathname.replace("/console/api/", "");
    if (path === "login") {
      tokens.push((route.request().postDataJSON() as { token: string }).token);
      return route.fulfill({ json: { name: "root", groups: [] } });
    }
    if (path === "mode") return route.fulfill({ json: { mode: "play", login: ["one-time"], version: "1" } });
    const items = path === "list/virtualmachines" ? [machine] : path === "list/virtualmachineinstances" ? [{ metadata: machine.metadata, spec: {}, status: { phase: "Running", nodeName: "desk" } }] : [];
    return route.fulfill({ json: { metadata: { resourceVersion: "5" }, items, allowed: {} } });
  });
  await page.goto("./#token=a%2Fb");
  await expect(page.getByRole("heading", { name: "Virtual machines" })).toBeVisible();
  expect(tokens).toEqual(["a/b"]);
  expect(page.url()).not.toContain("token");
  await expect(page.getByRole("link", { name: "Sessions" })).toBeVisible();
  await expect(page.getByRole("link", { name: "Nodes" })).toHaveCount(0);
  await page.keyboard.press("Control+k");
  await expect(page.getByRole("option", { name: /Sessions/ })).toBeVisible();
  await expect(page.getByRole("option", { name: /Nodes/ })).toHaveCount(0);
  await page.keyboard.press("Escape");
  await page.getByRole("link", { name: "kept" }).click();
  await expect(page.getByText("desk", { exact: true })).toBeVisible();
  await expect(page.getByRole("link", { name: "desk" })).toHaveCount(0);
});

test("a failed log-in elsewhere is told, as text, and can be tried again", async ({ page }) => {
  await page.route("**/console/api/**", (route) => {
    const path = new URL(route.request().url()).pathname;
    if (path.endsWith("/mode")) return route.fulfill({ json: { mode: "kubernetes", login: ["oidc"], version: "1" } });
    return route.fulfill({ status: 401, json: { message: "log in first" } });
  });
  await page.goto("./#login-error=%3Cb%3Enot%20known%3C%2Fb%3E");
  await expect(page.getByText("The log-in failed: <b>not known</b>")).toBeVisible();
  await expect(page.getByRole("link", { name: "Log in with your organisation" })).toHaveAttribute("href", "/console/api/login/oidc");
  await expect(page.getByLabel("Bearer token")).toHaveCount(0);
});

test("who may see one namespace only is told so, and sees it", async ({ page }) => {
  await page.route("**/console/api/**", (route) => {
    const url = new URL(route.request().url());
    const path = url.pathname.replace("/console/api/", "");
    if (path === "session") return route.fulfill({ json: { name: "ann", groups: [] } });
    if (path.startsWith("list/") && url.searchParams.get("namespace") !== "a") return route.fulfill({ status: 403, json: { message: "virtualmachines is forbidden: not in all namespaces" } });
    if (path.startsWith("list/")) return route.fulfill({ json: { metadata: { resourceVersion: "5" }, items: path === "list/virtualmachines" ? [machine] : [] } });
    return route.fulfill({ json: { allowed: {} } });
  });
  await page.goto("./#/vms");
  await expect(page.getByText("enter it at the top")).toBeVisible();
  await page.getByRole("combobox", { name: "Namespace" }).fill("a");
  await page.getByRole("combobox", { name: "Namespace" }).press("Enter");
  await expect(page.getByRole("link", { name: "kept" })).toBeVisible();
  await expect(page.getByText("Connection lost.")).toBeHidden();
});

test("a list that a page shared with another goes on when it is looked at again later", async ({ page }) => {
  const asked: string[] = [];
  await page.route("**/console/api/**", (route) => {
    const url = new URL(route.request().url());
    const path = url.pathname.replace("/console/api/", "");
    if (path === "session") return route.fulfill({ json: { name: "ann", groups: [] } });
    if (!path.startsWith("list/")) return route.fulfill({ json: { allowed: {} } });
    asked.push(path + url.search);
    return route.fulfill({ json: { metadata: { resourceVersion: "5" }, items: path === "list/virtualmachines" ? [machine] : [] } });
  });
  const times = () => asked.filter((one) => one === "list/virtualmachines").length;
  await page.goto("./#/vms");
  await page.getByRole("link", { name: "kept" }).click();
  await expect(page.getByRole("heading", { name: "kept" })).toBeVisible();
  expect(asked).not.toContain("list/virtualmachines?namespace=a");
  await page.getByRole("link", { name: "Sessions" }).click();
  // Longer than a list is kept after its last reader: it is asked for anew.
  await expect(async () => {
    await page.getByRole("link", { name: "VMs", exact: true }).click();
    await expect(page.getByRole("link", { name: "kept" })).toBeVisible();
    const known = times();
    await page.getByRole("link", { name: "Sessions" }).click();
    expect(known).toBeGreaterThan(1);
  }).toPass({ intervals: [6000], timeout: 30_000 });
});
