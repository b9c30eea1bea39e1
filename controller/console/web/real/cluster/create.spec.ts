import { BOOT, enter, expect, given, test } from "../page";

test("a machine is made from the form after wrong inputs were said at their fields", async ({ page }) => {
  await enter(page, "operator", `/create?ns=${given.namespace}`);
  const [name, memory] = [page.getByLabel("Name", { exact: true }), page.getByLabel("Memory")];
  await name.fill("Not_A_Name");
  await page.getByLabel("Image").fill(given.image);
  await expect(name).toHaveAccessibleDescription(/lower ?case/);
  await name.fill("fresh");
  await memory.fill("a lot");
  await expect(memory).toHaveAccessibleDescription(/quantity|must/);
  await memory.fill("128Mi");
  await expect(page.getByText("The server would take it.")).toBeVisible();
  await name.fill("web");
  await page.getByRole("button", { name: "Create" }).click();
  await expect(name).toHaveAccessibleDescription(/already exists/);
  await name.fill("fresh");
  await page.getByRole("button", { name: "Create" }).click();
  await expect(page.getByRole("heading", { name: "fresh" })).toBeVisible();
  await expect(page.getByRole("main")).toContainText(/fresh runs on node node[0-9]/, { timeout: BOOT });
});
