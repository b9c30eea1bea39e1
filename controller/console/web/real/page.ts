/** What the browser tests on a real console share. Things are found by roles and names only. */

import { execFileSync } from "node:child_process";
import { type Locator, type Page, expect, test as base } from "@playwright/test";
import { given } from "./given";

/** Until a guest has booted: emulated, beside the browser, ms. */
export const BOOT = 180_000;

/** What a refused or broken request leaves on the browser's console. The page itself tells of those. */
const REQUEST = /^Failed to load resource|^WebSocket connection to/;

/** A test whose page may say no error on the browser's console but of requests, be it of the content security policy. */
export const test = base.extend<{ quiet: void }>({
  quiet: [
    async ({ page }, use) => {
      const said: string[] = [];
      page.on("console", (message) => message.type() === "error" && !REQUEST.test(message.text()) && said.push(message.text()));
      page.on("pageerror", (error) => said.push(String(error)));
      await use();
      expect(said).toEqual([]);
    },
    { auto: true },
  ],
});

/** Runs `kubectl` as administrator in the tests' namespace. */
export const kubectl = (...words: string[]): string => fed("", ...words);

/** Makes an object in the tests' namespace, as administrator. */
export const create = (object: object): string => fed(JSON.stringify(object), "create", "--filename", "-");

function fed(input: string, ...words: string[]): string {
  const [program = "", ...first] = given.kubectl;
  return execFileSync(program, [...first, "--namespace", given.namespace, ...words], { encoding: "utf8", input });
}

/** Logs in by token, and goes to a place. */
export async function enter(page: Page, user: string, hash = "/vms"): Promise<void> {
  // A network interface that comes to the machine meanwhile breaks it off (ERR_NETWORK_CHANGED).
  await expect(() => page.goto(`./#${hash}`)).toPass();
  await page.getByLabel("Bearer token").fill(given.tokens[user] ?? "");
  await page.getByRole("button", { name: "Log in" }).click();
  await expect(page.getByRole("navigation", { name: "Main" })).toBeVisible();
}

/** Looks at the tests' namespace only. */
export async function narrow(page: Page): Promise<void> {
  const field = page.getByRole("combobox", { name: "Namespace" });
  await field.fill(given.namespace);
  await field.press("Enter");
}

/** Place of a machine's page. */
export const machine = (name: string, tab = ""): string => `/vms/${given.namespace}/${name}${tab && `?tab=${tab}`}`;

/** The lines of a serial console. */
export const lines = (serial: Locator): Locator => serial.getByRole("list");

/** The serial console that a page shows, once a shell has answered. */
export async function shell(page: Page, name: string): Promise<Locator> {
  const serial = page.getByRole("region", { name: `Serial console of ${name}` });
  await expect(serial.getByRole("status")).toContainText("Connected");
  await expect(lines(serial)).toContainText(":/root#", { timeout: BOOT });
  return serial;
}

/** Types a line into a serial console that is shown. */
export async function type(page: Page, name: string, line: string): Promise<void> {
  await page.getByRole("textbox", { name: `Terminal of ${name}` }).focus();
  await page.keyboard.type(`${line}\n`);
}

export { expect, given };
