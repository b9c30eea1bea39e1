import { readFileSync } from "node:fs";
import { NARROW, accessible, expect, fits, open, test } from "./page";

test("a command is typed into the serial console, and its answer read", async ({ page }) => {
  await open(page, "/vms/shop/web-1?tab=console");
  const serial = page.getByRole("region", { name: "Serial console of web-1" });
  await expect(serial).toContainText("Connected");
  await expect(serial).toContainText("Reached target multi-user.target");
  await page.getByRole("textbox", { name: "Terminal of web-1" }).focus();
  await page.keyboard.type("echo hello from the console\n");
  await expect(serial.getByRole("list")).toContainText("hello from the console");
  await expect(serial).toContainText("2 viewers");
  await accessible(page);
});

test("the keyboard is given to one who asks for it, and taken again", async ({ page }) => {
  await open(page, "/vms/shop/web-1?tab=console");
  const serial = page.getByRole("region", { name: "Serial console of web-1" });
  await expect(serial.getByRole("alert")).toContainText("ann@example.org asks for the keyboard.");
  await accessible(page);
  await serial.getByRole("button", { name: "Give it" }).click();
  await expect(serial).toContainText("read only");
  await expect(serial.getByRole("alert")).toBeHidden();
});

test("a console goes on while another tab or page is looked at", async ({ page }) => {
  await open(page, "/vms/shop/web-1?tab=console");
  const serial = page.getByRole("region", { name: "Serial console of web-1" });
  await expect(serial).toContainText("Connected");
  await page.getByRole("textbox", { name: "Terminal of web-1" }).focus();
  await page.keyboard.type("half a comm");
  await page.getByRole("link", { name: "Events" }).click();
  await expect(serial).toBeHidden();
  await page.getByRole("link", { name: "Nodes" }).click();
  await page.getByRole("link", { name: "web-1 serial" }).click();
  await expect(serial).toBeVisible();
  await page.keyboard.type("and\n");
  await expect(serial.getByRole("list")).toContainText("half: command not found");
  await page.getByRole("button", { name: "Close console of web-1" }).click();
  await expect(page.getByRole("link", { name: "web-1 serial" })).toBeHidden();
});

test("the console's end is said, and it comes back with the machine and its history", async ({ page }) => {
  await open(page, "/vms/shop/report?tab=console");
  const serial = page.getByRole("region", { name: "Serial console of report" });
  await expect(serial).toContainText("VMI is not running");
  await page.getByRole("button", { name: "Start", exact: true }).click();
  await expect(serial).toContainText("Reached target multi-user.target", { timeout: 15_000 });
});

test("Ctrl+] gives the keyboard back", async ({ page }) => {
  await open(page, "/vms/shop/web-1?tab=console");
  await expect(page.getByRole("region", { name: "Serial console of web-1" })).toContainText("Connected");
  await page.getByRole("textbox", { name: "Terminal of web-1" }).focus();
  await page.keyboard.press("Control+]");
  await expect(page.getByRole("button", { name: "Find" })).toBeFocused();
});

test("what is found is counted, and the log is downloaded as lines", async ({ page }) => {
  await open(page, "/vms/shop/web-1?tab=console");
  await expect(page.getByRole("region", { name: "Serial console of web-1" })).toContainText("Connected");
  await page.getByRole("button", { name: "Find" }).click();
  await page.getByRole("searchbox", { name: "Find in the console" }).fill("virtio_blk");
  await expect(page.getByText("1 of 1")).toBeVisible();
  const download = page.waitForEvent("download");
  await page.getByRole("button", { name: "More of the serial console" }).click();
  await page.getByRole("menuitem", { name: "Download the log" }).click();
  const text = readFileSync(await (await download).path(), "utf8");
  expect(text).toContain("[  OK  ] Reached target multi-user.target.\n");
});

test("a recording is seen while it is made, and is an asciicast", async ({ page }) => {
  await open(page, "/vms/shop/web-1?tab=console");
  await expect(page.getByRole("region", { name: "Serial console of web-1" })).toContainText("Connected");
  await page.getByRole("button", { name: "Record" }).click();
  await expect(page.getByText("● REC")).toBeVisible();
  await page.getByRole("textbox", { name: "Terminal of web-1" }).focus();
  await page.keyboard.type("hostname\n");
  await expect(page.getByRole("region", { name: "Serial console of web-1" }).getByRole("list")).toContainText("hostname");
  const download = page.waitForEvent("download");
  await page.getByRole("button", { name: "Stop recording" }).click();
  const [head = "", ...lines] = readFileSync(await (await download).path(), "utf8").trim().split("\n");
  expect(JSON.parse(head)).toMatchObject({ version: 3, title: "shop/web-1" });
  expect(lines.map((line) => JSON.parse(line)[2]).join("")).toContain("hostname");
  await expect(page.getByText("● REC")).toBeHidden();
});

test("a read-only console takes no keys", async ({ page }) => {
  await open(page, "/vms/shop/web-1?tab=console");
  const serial = page.getByRole("region", { name: "Serial console of web-1" });
  await expect(serial).toContainText("Connected");
  await page.getByRole("button", { name: "More of the serial console" }).click();
  await page.getByRole("menuitem", { name: "Only look" }).click();
  await expect(serial).toContainText("read only");
  await expect(serial).toContainText("Connected");
  await page.getByRole("textbox", { name: "Terminal of web-1" }).focus();
  await page.keyboard.type("echo nobody hears this");
  await page.getByRole("button", { name: "More of the serial console" }).click();
  await page.getByRole("menuitem", { name: "Take the keyboard" }).click();
  await expect(serial.getByText("read only", { exact: true })).toBeHidden();
  await expect(serial).toContainText("Connected");
  await expect(serial.getByRole("list")).not.toContainText("nobody hears");
});

test("a guest cannot put markup into the page", async ({ page }) => {
  await open(page, "/vms/shop/web-1?tab=console");
  const serial = page.getByRole("region", { name: "Serial console of web-1" });
  await expect(serial).toContainText("Connected");
  await page.getByRole("textbox", { name: "Terminal of web-1" }).focus();
  await page.keyboard.type("echo <img src=x alt=broken>\n");
  await expect(serial.getByRole("list")).toContainText("<img src=x alt=broken>");
  await expect(page.getByRole("img", { name: "broken" })).toHaveCount(0);
});

test("a guest neither reads the clipboard nor writes it without the user", async ({ page, context }) => {
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await open(page, "/vms/shop/web-1?tab=console");
  const serial = page.getByRole("region", { name: "Serial console of web-1" });
  await expect(serial).toContainText("Connected");
  await page.evaluate(() => navigator.clipboard.writeText("mine"));
  await page.getByRole("textbox", { name: "Terminal of web-1" }).focus();
  await page.keyboard.type("clip theirs\n");
  await expect(page.getByRole("button", { name: "Copy the guest’s text" })).toBeVisible();
  expect(await page.evaluate(() => navigator.clipboard.readText())).toBe("mine");
  await expect(serial.getByRole("list")).not.toContainText(btoa("mine"));
  await page.getByRole("button", { name: "Copy the guest’s text" }).click();
  await expect(page.getByText("6 characters of the guest were copied.")).toBeVisible();
  expect(await page.evaluate(() => navigator.clipboard.readText())).toBe("theirs");
});

test("a screen is seen, typed into, sent a key of the menu and a text of another layout", async ({ page }) => {
  await open(page, "/vms/shop/web-1?tab=vnc");
  const screen = page.getByRole("region", { name: "Screen of web-1" });
  await expect(screen).toContainText("Connected");
  await expect(screen.getByRole("status")).toContainText("Connected");
  await accessible(page);
  await page.getByRole("button", { name: "Send keys" }).click();
  await page.getByRole("menuitem", { name: "F1", exact: true }).click();
  await page.getByRole("button", { name: "Type a text" }).click();
  const dialog = page.getByRole("dialog", { name: "Type a text into web-1" });
  await dialog.getByLabel("Layout of the guest").selectOption("de");
  await dialog.getByRole("textbox", { name: "Text" }).fill("zy€漢");
  await expect(dialog.getByRole("alert")).toContainText("no key for 漢");
  await accessible(page);
  await dialog.getByRole("button", { name: "Type it" }).click();
  await expect(dialog).toBeHidden();
  const download = page.waitForEvent("download");
  await page.getByRole("button", { name: "More of the screen" }).click();
  await page.getByRole("menuitem", { name: "Save a picture" }).click();
  const picture = readFileSync(await (await download).path());
  expect(picture.subarray(1, 4).toString()).toBe("PNG");
  expect(picture.length).toBeGreaterThan(5000);
});

test("consoles have windows of their own, with nothing but them", async ({ page }) => {
  await open(page, "/vms/shop/web-1?tab=console");
  const window = page.waitForEvent("popup");
  await page.getByRole("button", { name: "Own window" }).click();
  const own = await window;
  await expect(own.getByRole("region", { name: "Serial console of web-1" })).toBeVisible();
  await expect(own.getByRole("navigation")).toHaveCount(0);
});

test("consoles fit a narrow window, and have keys for fingers", async ({ page }) => {
  await page.setViewportSize(NARROW);
  await open(page, "/vms/shop/web-1?tab=console");
  const serial = page.getByRole("region", { name: "Serial console of web-1" });
  await expect(serial).toContainText("Connected");
  await expect(page.getByRole("button", { name: "Ctrl-C" })).toBeVisible();
  await fits(page);
  await open(page, "/vms/shop/web-1?tab=vnc");
  await expect(page.getByRole("region", { name: "Screen of web-1" })).toContainText("Connected");
  await expect(page.getByRole("group", { name: "Keys that are held" })).toBeVisible();
  await fits(page);
  await accessible(page);
});
