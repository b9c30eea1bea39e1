/** What the browser tests share. Pages are opened on the demo, and things found by roles and names only. */

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { type Page, expect, test as base } from "@playwright/test";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** A test whose page may say no error on the browser's console, be it of the content security policy. */
export const test = base.extend<{ quiet: void }>({
  quiet: [
    async ({ page }, use) => {
      const said: string[] = [];
      page.on("console", (message) => message.type() === "error" && said.push(message.text()));
      page.on("pageerror", (error) => said.push(String(error)));
      await use();
      expect(said).toEqual([]);
    },
    { auto: true },
  ],
});

/** Opens the demo at a place; `query`: more of its words. */
export async function open(page: Page, hash: string, query = ""): Promise<void> {
  await page.goto(`./?demo${query}#${hash}`);
}

type Violation = { id: string; nodes: { target: string[]; failureSummary: string }[] };

/** Nothing for axe to find, in both colours. */
export async function accessible(page: Page): Promise<void> {
  await page.evaluate(axe);
  for (const colorScheme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme });
    const found = await page.evaluate(async () => {
      const { violations } = await (window as unknown as { axe: { run(): Promise<{ violations: Violation[] }> } }).axe.run();
      return violations.map((one) => `${one.id}: ${one.nodes.map((node) => `${node.target.join(" ")} (${node.failureSummary})`).join("; ")}`);
    });
    expect(found, colorScheme).toEqual([]);
  }
}

/** The page is not wider than its window. */
export async function fits(page: Page): Promise<void> {
  const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  expect(over).toBeLessThanOrEqual(0);
}

export const NARROW = { width: 360, height: 740 };
export { expect };
