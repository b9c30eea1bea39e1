import { expect, open, test } from "./page";

/** The pictures of the documentation, made anew by `npm run pictures`. */
const FOLDER = "../../../docs/src/how-to/console";
const PICTURES: [name: string, hash: string, seen: RegExp, scheme: "light" | "dark", query?: string][] = [
  ["login", "/", /Log in/, "light", "&login"],
  ["machines", "/vms", /11 machines/, "light"],
  ["machine", "/vms/shop/queue", /waits for a restart/, "light"],
  ["serial", "/vms/shop/web-1?tab=console", /Reached target/, "dark"],
  ["screen", "/vms/shop/web-1?tab=vnc", /Connected/, "light"],
  ["create", "/create?ns=shop", /New machine/, "light"],
  ["nodes", "/nodes", /4 nodes/, "light"],
  ["servers", "/hosts", /rack-6/, "light"],
  ["fenced", "/hosts/metal/rack-4", /read Off 3 times/, "dark"],
  ["server", "/hosts/metal/rack-2", /50 of 72/, "light"],
  ["sessions", "/sessions", /ann@example.org/, "light"],
];

/** Pages with more to see than a window shows, px. */
const TALL: Record<string, number> = { machine: 1130, server: 1260 };

test.skip(process.env.PICTURES === undefined, "they are made when they are asked for");

for (const [name, hash, seen, colorScheme, query] of PICTURES) {
  test(`a picture of ${name}`, async ({ page }) => {
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize({ width: 1200, height: TALL[name] ?? 720 });
    await open(page, hash, query);
    await expect(page.getByRole("main")).toContainText(seen);
    await expect(page.getByText("Looking…")).toBeHidden();
    await page.screenshot({ path: `${FOLDER}/${name}.png`, animations: "disabled" });
  });
}
