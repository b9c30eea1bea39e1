import { type Page } from "@playwright/test";
import { expect, given, test } from "../page";

const COOKIE = "__Secure-catamaran-console";

/** From the console to the provider's own page. */
async function leave(page: Page): Promise<void> {
  await page.goto("./");
  await page.getByRole("link", { name: "Log in with your organisation" }).click();
  await expect(page.getByRole("textbox", { name: "Enter any login" })).toBeVisible();
}

/** Says who one is there, and agrees. */
async function agree(page: Page, who: string): Promise<void> {
  await page.getByRole("textbox", { name: "Enter any login" }).fill(who);
  await page.getByPlaceholder("and password").fill("any");
  await page.getByRole("button", { name: "Sign-in" }).click();
  await page.getByRole("button", { name: "Continue" }).click();
}

test("who is in a group that has the right comes in by the provider, and out again", async ({ page, context }) => {
  const asked: URL[] = [];
  page.on("request", (request) => asked.push(new URL(request.url())));
  await leave(page);
  await agree(page, "ann");
  await expect(page.getByRole("heading", { name: "Virtual machines" })).toBeVisible();
  await expect(page.getByText("oidc:ann@example.org")).toBeVisible();
  await expect(page.getByText("There are no virtual machines yet.")).toBeVisible();

  const begun = asked.find((url) => url.searchParams.has("code_challenge"));
  expect(begun?.searchParams.get("code_challenge_method")).toBe("S256");
  expect(begun?.searchParams.get("response_type")).toBe("code");
  expect(begun?.origin).not.toBe(given.address);
  // A code is all that an address ever holds.
  for (const url of asked) expect(url.href).not.toMatch(/id_token|access_token|ey[A-Za-z0-9_-]{20,}/);
  const cookies = await context.cookies(`${given.address}/console/api/session`);
  expect(cookies.filter(({ name }) => name.startsWith(COOKIE))).toMatchObject([{ name: COOKIE, httpOnly: true, secure: true, sameSite: "Strict" }]);

  await page.getByRole("button", { name: "Log out" }).click();
  await expect(page.getByText("You have logged out.")).toBeVisible();
  await page.reload();
  await expect(page.getByRole("heading", { name: "Log in" })).toBeVisible();
  // The provider knows its user still.
  await page.getByRole("link", { name: "Log in with your organisation" }).click();
  await expect(page.getByText("oidc:ann@example.org")).toBeVisible();
});

test("who is in no group comes in, and is refused what the roles do not give", async ({ page }) => {
  await leave(page);
  await agree(page, "bob");
  await expect(page.getByText("oidc:bob@example.org", { exact: true })).toBeVisible();
  await expect(page.getByRole("alert").filter({ hasText: 'User "oidc:bob@example.org" cannot list' })).toBeVisible();
});

test("who does not agree at the provider is told that he did not come in", async ({ page }) => {
  await leave(page);
  await page.getByRole("link", { name: "Cancel" }).click();
  await expect(page.getByText(/The log-in failed: .*access_denied/)).toBeVisible();
  expect(page.url()).not.toContain("access_denied");
});

test("whom the API server does not believe stays out", async ({ page }) => {
  await leave(page);
  await agree(page, "eve");
  await expect(page.getByText(/The log-in failed: the API server does not know this token/)).toBeVisible();
  await expect(page.getByRole("heading", { name: "Log in" })).toBeVisible();
});

test("a login that another browser has begun is not ended in this one", async ({ page, browser }) => {
  const answer = page.waitForRequest(/\/login\/callback\?.*code=/);
  await leave(page);
  await agree(page, "ann");
  const context = await browser.newContext();
  const other = await context.newPage();
  await other.goto((await answer).url());
  await expect(other.getByText(/The log-in failed: .*not begun in this browser/)).toBeVisible();
  await context.close();
});
