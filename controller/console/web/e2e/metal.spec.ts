import { NARROW, accessible, expect, fits, open, test } from "./page";

test("nodes tell what they have, what machines take, and whether KVM is there", async ({ page }) => {
  await open(page, "/nodes");
  await expect(page.getByRole("row", { name: /node-1 Ready full speed/ })).toBeVisible();
  await expect(page.getByRole("row", { name: /node-3 Cordoned.*emulated/ })).toBeVisible();
  await expect(page.getByRole("row", { name: /node-4 Fenced/ })).toBeVisible();
  await accessible(page);
  await page.getByRole("link", { name: "node-1" }).click();
  await expect(page.getByRole("region", { name: "Machines on it" })).toContainText("shop/web-1");
  await accessible(page);
});

test("a node is drained with its progress until it is empty", async ({ page }) => {
  await open(page, "/nodes/node-2");
  await page.getByRole("button", { name: "Drain node-2" }).click();
  const question = page.getByRole("dialog", { name: "Drain node-2?" });
  await expect(question).toContainText("shop/web-2");
  await question.getByRole("button", { name: "Drain" }).click();
  await expect(page.getByText(/draining… \d machines? left/)).toBeVisible();
  await expect(page.getByText("another machine of its budget is going down")).toBeVisible();
  await expect(page.getByText("drained", { exact: true })).toBeVisible({ timeout: 30_000 });
  await page.getByRole("button", { name: "Uncordon node-2" }).click();
  await expect(page.getByText("node-2 takes machines again.")).toBeVisible();
});

test("servers have their state, its reason and their fencing record", async ({ page }) => {
  await open(page, "/hosts");
  await expect(page.getByRole("row", { name: /rack-6 registering.*401 Unauthorized/ })).toBeVisible();
  await expect(page.getByRole("row", { name: /rack-5 provisioning.*41 % of the image/ })).toBeVisible();
  await accessible(page);
  await page.getByRole("link", { name: "rack-4" }).click();
  await expect(page.getByRole("region", { name: "Fencing" })).toContainText("read Off 3 times");
  await expect(page.getByRole("region", { name: "Inventory" })).toContainText("384 GiB");
  await accessible(page);
});

test("a server is turned on, and cut off only after a question", async ({ page }) => {
  await open(page, "/hosts/metal/rack-3");
  await page.getByRole("button", { name: "Turn on" }).click();
  await expect(page.getByText("rack-3 is to be on.")).toBeVisible();
  await page.getByRole("button", { name: "Turn off" }).click();
  await page.getByRole("dialog", { name: "Turn off rack-3?" }).getByRole("button", { name: "Cancel" }).click();
  await expect(page.getByRole("button", { name: "Turn off" })).toBeVisible();
});

test("a server's sensors are told with units and health, and its event log newest first", async ({ page }) => {
  await open(page, "/hosts/metal/rack-1");
  const sensors = page.getByRole("region", { name: "Sensors" });
  await expect(sensors.getByRole("row", { name: /Inlet.*warning above 42.*43 °C Warning/ })).toBeVisible();
  await expect(sensors.getByRole("row", { name: /Fan 1 7140 RPM OK/ })).toBeVisible();
  await expect(sensors.getByRole("row", { name: /PSU 2 0 W Critical/ })).toBeVisible();
  const log = page.getByRole("region", { name: "Event log" });
  await expect(log.getByRole("listitem").nth(1)).toContainText("Power supply 2 has lost its input.");
  await expect(log).toContainText("50 of 72 in Sel");
  await log.getByRole("button", { name: "Show older" }).click();
  await expect(log).toContainText("72 of 72 in Sel");
  await expect(log.getByRole("button", { name: "Show older" })).toBeHidden();
  await accessible(page);
  await page.setViewportSize(NARROW);
  await fits(page);
  await accessible(page);
});

test("a BMC that does not answer is said where its answer would be", async ({ page }) => {
  await open(page, "/hosts/metal/rack-6");
  await expect(page.getByRole("region", { name: "Sensors" })).toContainText("401 Unauthorized");
  await expect(page.getByRole("region", { name: "Event log" })).toContainText("401 Unauthorized");
  await expect(page.getByRole("button", { name: "Boot from there once" })).toBeDisabled();
  await expect(page.getByRole("combobox", { name: "Boot once from" })).toHaveAccessibleDescription(/It is registering/);
});

test("a CD is inserted and ejected at a server's starts", async ({ page }) => {
  await open(page, "/hosts/metal/rack-1");
  const media = page.getByRole("region", { name: "Virtual media" });
  await expect(media.getByRole("button", { name: "Eject" })).toBeDisabled();
  await media.getByLabel("Image of a CD").fill("http://images.example/rescue.iso?a");
  await media.getByRole("button", { name: "Insert" }).click();
  await expect(media.getByLabel("Image of a CD")).toHaveAccessibleDescription(/BMCs do not take/);
  await media.getByLabel("Image of a CD").fill("http://images.example/rescue.iso");
  await media.getByRole("button", { name: "Insert" }).click();
  await expect(media).toContainText("http://images.example/rescue.iso is inserted at its next start.");
  await expect(media.getByRole("button", { name: "Insert" })).toBeDisabled();
  await accessible(page);
  const reboot = async () => {
    await page.getByRole("button", { name: "More actions on rack-1" }).click();
    await page.getByRole("menuitem", { name: "Reboot", exact: true }).click();
    await page.getByRole("dialog", { name: "Reboot rack-1?" }).getByRole("button", { name: "Reboot" }).click();
  };
  await reboot();
  await expect(media.getByRole("definition").first()).toHaveText("http://images.example/rescue.iso");
  await media.getByRole("button", { name: "Eject" }).click();
  await expect(media).toContainText("It is ejected at its next start.");
  await reboot();
  await expect(media.getByRole("definition").first()).toHaveText("nothing");
});

test("a server boots once from elsewhere, and that can be taken back", async ({ page }) => {
  await open(page, "/hosts/metal/rack-3");
  await expect(page.getByRole("region", { name: "Sensors" }).getByText("Not read: power: status 500")).toHaveCount(2);
  const boot = page.getByRole("region", { name: "Boot once" });
  await expect(boot).toContainText("It boots as its firmware says.");
  await boot.getByRole("combobox", { name: "Boot once from" }).selectOption("the network (PXE)");
  await boot.getByRole("button", { name: "Boot from there once" }).click();
  await expect(boot).toContainText("it boots from the network (PXE), once.");
  await accessible(page);
  await boot.getByRole("button", { name: "Take it back" }).click();
  await expect(boot).toContainText("It boots as its firmware says.");
});

test("who may only look reads a server's sensors and changes nothing", async ({ page }) => {
  await open(page, "/hosts/metal/rack-1", "&viewer");
  await expect(page.getByRole("region", { name: "Sensors" })).toContainText("43 °C");
  await expect(page.getByRole("button", { name: "Insert" })).toBeDisabled();
  await expect(page.getByLabel("Image of a CD")).toHaveAccessibleDescription("You may not insert media here.");
  await expect(page.getByRole("button", { name: "Boot from there once" })).toBeDisabled();
});

test("a server is enrolled, and a wrong address is said at its field", async ({ page }) => {
  await open(page, "/hosts?ns=metal");
  await page.getByRole("button", { name: "Enrol a server" }).click();
  const form = page.getByRole("dialog", { name: "Enrol a server" });
  await form.getByLabel("Name", { exact: true }).fill("rack-7");
  await form.getByLabel("BMC address").fill("192.0.2.107");
  await form.getByLabel("BMC user").fill("root");
  await form.getByLabel("BMC password").fill("secret");
  await form.getByRole("button", { name: "Enrol" }).click();
  await expect(form.getByLabel("BMC address")).toHaveAccessibleDescription(/must be a URL/);
  await accessible(page);
  await form.getByLabel("BMC address").fill("redfish-virtualmedia://192.0.2.107/redfish/v1/Systems/1");
  await form.getByRole("button", { name: "Enrol" }).click();
  await expect(page.getByRole("heading", { name: "rack-7" })).toBeVisible();
});

test("an admin ends another's session", async ({ page }) => {
  await open(page, "/sessions");
  await expect(page.getByRole("row", { name: /demo-operator this one/ })).toBeVisible();
  await page.getByRole("button", { name: "End the session of ann@example.org" }).click();
  await page.getByRole("button", { name: "End it" }).click();
  await expect(page.getByRole("row", { name: /ann@example.org/ })).toBeHidden();
  await accessible(page);
});
