import { enter, expect, given, machine, narrow, test } from "../page";

const USERS = [
  { user: "viewer", acts: false },
  { user: "operator", acts: true },
  { user: "admin", acts: true },
];

for (const { user, acts } of USERS) {
  for (const everywhere of [true, false]) {
    test(`${user} of ${everywhere ? "everything" : "one namespace"} sees and may do what the roles say`, async ({ page }) => {
      await enter(page, everywhere ? user : `${user}-here`);
      if (!everywhere) {
        await expect(page.getByText("enter it at the top")).toBeVisible();
        await narrow(page);
      }
      const row = page.getByRole("row").filter({ hasText: given.namespace }).filter({ has: page.getByRole("link", { name: "web", exact: true }) });
      await expect(row).toContainText("Running");
      if (acts) await expect(page.getByRole("link", { name: "New machine" })).toBeVisible();
      else await expect(page.getByRole("button", { name: "New machine" })).toBeDisabled();
      await row.getByRole("button", { name: "Actions on web" }).click();
      const restart = page.getByRole("menuitem", { name: "Restart", exact: false }).first();
      await expect(restart).toHaveAttribute("aria-disabled", String(!acts));
      if (!acts) {
        await expect(restart).toContainText("You may not restart machines here.");
        await expect(page.getByRole("menuitem", { name: "Serial console" })).toContainText("You may not open it here.");
        await page.keyboard.press("Escape");
        await page.goto(`./#${machine("web", "console")}`);
        await expect(page.getByRole("region", { name: "Serial console of web" }).getByRole("alert")).toContainText(/cannot|forbidden|may not/);
      }
    });
  }
}

test("a token that nobody has is refused", async ({ page }) => {
  await page.goto("./");
  await page.getByLabel("Bearer token").fill("nobody");
  await page.getByRole("button", { name: "Log in" }).click();
  await expect(page.getByRole("alert").filter({ hasText: "the API server does not know this token" })).toBeVisible();
  await expect(page.getByRole("heading", { name: "Log in" })).toBeVisible();
});
