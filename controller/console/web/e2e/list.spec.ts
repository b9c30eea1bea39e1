import { NARROW, accessible, expect, fits, open, test } from "./page";

test("machines are listed with their state, and axe finds nothing", async ({ page }) => {
  await open(page, "/vms");
  await expect(page.getByRole("row", { name: /web-1 shop Running node-1/ })).toBeVisible();
  await expect(page.getByRole("row", { name: /queue.*restart required/ })).toBeVisible();
  await accessible(page);
});

test("filter and order are in the URL, and come back from it", async ({ page }) => {
  await open(page, "/vms");
  await page.getByRole("searchbox", { name: "Filter" }).fill("web");
  await expect(page.getByText("2 machines of 11")).toBeVisible();
  await page.getByRole("combobox", { name: "Node" }).selectOption("node-2");
  await page.getByRole("button", { name: "Name", exact: true }).click();
  await expect(page).toHaveURL(/q=web&node=node-2&sort=name/);
  await page.reload();
  await expect(page.getByText("1 machine of 11")).toBeVisible();
  await expect(page.getByRole("columnheader", { name: "Name", exact: true })).toHaveAttribute("aria-sort", "ascending");
  await page.getByRole("button", { name: "Clear filter" }).click();
  await expect(page.getByText("11 machines")).toBeVisible();
});

test("a label filters", async ({ page }) => {
  await open(page, "/vms?label=tier%3Dback");
  await expect(page.getByText("2 machines of 11")).toBeVisible();
});

test("a machine is stopped after a question, and its progress is shown against its deadline", async ({ page }) => {
  await open(page, "/vms?ns=shop");
  await page.getByRole("button", { name: "Actions on web-1" }).click();
  await page.getByRole("menuitem", { name: "Stop", exact: true }).click();
  const question = page.getByRole("dialog", { name: "Stop shop/web-1?" });
  await expect(question).toContainText("killed if it has not");
  await question.getByRole("button", { name: "Stop" }).click();
  await expect(page.getByText(/stopping… \d+ s of 30 s/)).toBeVisible();
  await expect(page.getByRole("row", { name: /web-1 shop Stopped/ })).toBeVisible();
});

test("what the state or the rights do not allow is disabled with the reason", async ({ page }) => {
  await open(page, "/vms?ns=shop");
  await page.getByRole("button", { name: "Actions on report" }).click();
  await expect(page.getByRole("menuitem", { name: /^Pause/ })).toHaveAttribute("aria-disabled", "true");
  await expect(page.getByRole("menuitem", { name: "Pause It is not running.", exact: true })).toBeVisible();
  await open(page, "/vms?ns=shop", "&viewer");
  await page.getByRole("button", { name: "Actions on report" }).click();
  await expect(page.getByRole("menuitem", { name: "Start You may not start machines here." })).toHaveAttribute("aria-disabled", "true");
});

test("several machines are acted on at once, with a result for each, and nothing stays selected", async ({ page }) => {
  await open(page, "/vms?ns=build");
  await page.getByRole("checkbox", { name: "Select build/runner-1" }).check();
  await page.getByRole("checkbox", { name: "Select build/runner-2" }).check();
  await page.getByRole("checkbox", { name: "Select build/nightly" }).check();
  await page.getByRole("button", { name: "Actions on the selected machines" }).click();
  await page.getByRole("menuitem", { name: "Restart (2 of 3)", exact: true }).click();
  await page.getByRole("dialog", { name: "Restart 2 machines?" }).getByRole("button", { name: "Restart" }).click();
  const results = page.getByRole("dialog", { name: "Restart: 2 of 2 done" });
  await expect(results.getByRole("listitem")).toHaveCount(2);
  await expect(results).toContainText("build/runner-2 was asked to restart");
  await results.getByRole("button", { name: "Close" }).click();
  await expect(page.getByText("3 selected")).toBeHidden();
  await expect(page.getByRole("checkbox", { name: "Select build/runner-1" })).not.toBeChecked();
});

test("two thousand machines are windowed, scrolled and filtered", async ({ page }) => {
  await open(page, "/vms", "&many=2000");
  await expect(page.getByText("2011 machines")).toBeVisible();
  expect(await page.getByRole("row").count()).toBeLessThan(80);
  await expect(page.getByRole("table", { name: "Virtual machines" })).toHaveAttribute("aria-rowcount", "2012");
  await page.evaluate(() => window.scrollTo(0, document.documentElement.scrollHeight));
  await expect(page.getByRole("row", { name: /web-2 shop/ })).toBeVisible();
  const slow = await page.evaluate(async () => {
    let worst = 0;
    let last = performance.now();
    for (let step = 0; step < 60; step += 1) {
      window.scrollTo(0, step * 1400);
      await new Promise(requestAnimationFrame);
      worst = Math.max(worst, performance.now() - last);
      last = performance.now();
    }
    return worst;
  });
  expect(slow).toBeLessThan(500);
  await page.getByRole("searchbox", { name: "Filter" }).fill("fleet-1999");
  await expect(page.getByRole("row", { name: /fleet-1999/ })).toBeVisible();
});

test("a narrow window has cards, and nothing is cut off", async ({ page }) => {
  await page.setViewportSize(NARROW);
  await open(page, "/vms");
  await expect(page.getByRole("link", { name: "web-1" })).toBeVisible();
  await fits(page);
  await accessible(page);
});
