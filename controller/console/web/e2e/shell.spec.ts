import { NARROW, accessible, expect, fits, open, test } from "./page";

test("a refused token is said at its field, and a good one leads in", async ({ page }) => {
  await open(page, "/", "&login");
  await accessible(page);
  await page.getByLabel("Bearer token").fill("wrong");
  await page.getByRole("button", { name: "Log in" }).click();
  await expect(page.getByText("the API server does not know this token")).toBeVisible();
  await page.getByLabel("Bearer token").fill("demo");
  await page.getByLabel("Bearer token").press("Enter");
  await expect(page.getByRole("heading", { name: "Virtual machines" })).toBeVisible();
  await page.getByRole("button", { name: "Log out" }).click();
  await expect(page.getByText("You have logged out.")).toBeVisible();
});

test("the keyboard alone leads through the palette to a machine and acts on it", async ({ page }) => {
  await open(page, "/vms");
  await expect(page.getByRole("heading", { name: "Virtual machines" })).toBeVisible();
  await page.keyboard.press("Control+k");
  await expect(page.getByRole("dialog", { name: "Command palette" })).toBeVisible();
  await accessible(page);
  await page.keyboard.type("report");
  await expect(page.getByRole("option", { name: /report/ })).toBeVisible();
  await page.keyboard.press("Enter");
  await expect(page.getByRole("heading", { name: "report" })).toBeVisible();
  await page.keyboard.press("Control+k");
  await page.keyboard.type("start report");
  await page.keyboard.press("Enter");
  await expect(page.getByText("shop/report was started.")).toBeVisible();
});

test("menus open, move and close by the keyboard, and give the focus back", async ({ page }) => {
  await open(page, "/vms?ns=shop");
  const button = page.getByRole("button", { name: "Actions on web-1" });
  await button.focus();
  await page.keyboard.press("Enter");
  await expect(page.getByRole("menuitem", { name: "Serial console" })).toBeFocused();
  await page.keyboard.press("ArrowDown");
  await expect(page.getByRole("menuitem", { name: "Screen" })).toBeFocused();
  await page.keyboard.press("Escape");
  await expect(button).toBeFocused();
});

test("colours follow the system until one is chosen, which stays", async ({ page }) => {
  await open(page, "/vms");
  await page.getByRole("button", { name: "Colours: system" }).click();
  await page.getByRole("button", { name: "Colours: light" }).click();
  await page.reload();
  await expect(page.getByRole("button", { name: "Colours: dark" })).toBeVisible();
});

test("the licences of all that is bundled are there, and where noVNC's source is", async ({ page }) => {
  await open(page, "/vms");
  const address = await page.getByRole("link", { name: "Licences" }).getAttribute("href");
  const text = await (await page.request.get(address ?? "")).text();
  for (const one of ["@novnc/novnc", "github.com/novnc/noVNC/tree/v", "pako", "@xterm/xterm", "@xterm/addon-search", "svelte", "yaml", "vnc-keymaps"]) expect(text).toContain(one);
});

for (const [hash, heading] of [["/nodes", "Nodes"], ["/hosts", "Bare metal"], ["/sessions", "Sessions"], ["/create", "New machine"], ["/nowhere", "No such page"]] as const) {
  test(`${hash} fits a narrow window, and axe finds nothing`, async ({ page }) => {
    await page.setViewportSize(NARROW);
    await open(page, hash);
    await expect(page.getByRole("heading", { name: heading, level: 1 })).toBeVisible();
    await fits(page);
    await accessible(page);
  });
}
