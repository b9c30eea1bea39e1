import { readFileSync } from "node:fs";
import { type Page } from "@playwright/test";
import { enter, expect, lines, machine, shell, test, type } from "../page";

/** Between two keys on a screen, ms: as quick as somebody types. */
const PAUSE = 40;

/** The picture of a screen that is shown. */
async function picture(page: Page): Promise<Buffer> {
  const download = page.waitForEvent("download");
  await page.getByRole("button", { name: "More of the screen" }).click();
  await page.getByRole("menuitem", { name: "Save a picture" }).click();
  return readFileSync(await (await download).path());
}

test("a command is typed into the serial console of a guest, and its answer read", async ({ page }) => {
  await enter(page, "operator", machine("web", "console"));
  const serial = await shell(page, "web");
  await type(page, "web", "echo answer-$((6*7))");
  await expect(lines(serial)).toContainText("answer-42");
});

test("a screen is seen, typed into, sent a key of the menu, and a text", async ({ page }) => {
  await enter(page, "operator-here", machine("web", "console"));
  // The other end of each proof: what is typed on the screen writes to the serial port.
  const serial = await shell(page, "web");
  // A terminal that nobody has opened can't be switched to.
  await type(page, "web", ": >/dev/tty2");
  await page.getByRole("link", { name: "Screen", exact: true }).click();
  const screen = page.getByRole("region", { name: "Screen of web" });
  await expect(screen.getByRole("status")).toContainText("Connected");
  const before = await picture(page);
  expect(before.subarray(1, 4).toString()).toBe("PNG");
  await screen.getByRole("application", { name: "Picture of web" }).click();
  // Letters that need no Shift, which Playwright presses for none.
  await page.keyboard.type("touch /tmp/typed-here; ls -l /bin\n", { delay: PAUSE });
  // It is full of letters now.
  await expect.poll(async () => (await picture(page)).length).toBeGreaterThan(1.5 * before.length);

  await screen.getByRole("button", { name: "Type a text" }).click();
  const dialog = page.getByRole("dialog", { name: "Type a text into web" });
  await dialog.getByLabel("Layout of the guest").selectOption("en-us");
  await dialog.getByRole("textbox", { name: "Text" }).fill("echo pasted-$((5*5)) >/dev/ttyS0\n");
  await dialog.getByRole("button", { name: "Type it" }).click();
  await expect(dialog).toBeHidden();

  await screen.getByRole("button", { name: "Send keys" }).click();
  await page.getByRole("menuitem", { name: "Ctrl+Alt+F2" }).click();

  await page.getByRole("link", { name: "Serial console", exact: true }).click();
  await expect(lines(serial)).toContainText("pasted-25");
  await type(page, "web", "ls /tmp");
  await expect(lines(serial)).toContainText("typed-here");
  await type(page, "web", "echo screen-$(cat /sys/class/tty/tty0/active)");
  await expect(lines(serial)).toContainText("screen-tty2");
  await type(page, "web", "chvt 1");
});

test("two look at one console at once, one of them only looks, asks for the keyboard and gets it", async ({ page, browser }) => {
  await enter(page, "operator", machine("web", "console"));
  const serial = await shell(page, "web");
  const context = await browser.newContext();
  const other = await context.newPage();
  await enter(other, "admin-here", machine("web", "console"));
  const theirs = await shell(other, "web");
  await other.getByRole("button", { name: "More of the serial console" }).click();
  await other.getByRole("menuitem", { name: "Only look" }).click();
  await expect(theirs.getByText("read only", { exact: true })).toBeVisible();
  await expect(theirs.getByRole("status")).toContainText("Connected");
  await type(other, "web", "echo nobody-hears-this");
  await type(page, "web", "echo both-$((2*4))");
  for (const one of [serial, theirs]) await expect(lines(one)).toContainText("both-8");
  await expect(lines(serial)).not.toContainText("nobody-hears");
  await theirs.getByRole("button", { name: "Ask for the keyboard" }).click();
  const asked = serial.getByRole("alert").filter({ hasText: /admin-here asks for the keyboard/ });
  await asked.getByRole("button", { name: "Give it" }).click();
  await expect(serial.getByText("read only", { exact: true })).toBeVisible();
  await expect(theirs.getByText("read only", { exact: true })).toBeHidden();
  await expect(theirs.getByRole("status")).toContainText("Connected");
  await type(other, "web", "echo given-$((3*9))");
  for (const one of [serial, theirs]) await expect(lines(one)).toContainText("given-27");
  await context.close();
});
