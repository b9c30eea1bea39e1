import { enter, expect, machine, shell, test } from "../page";

/** How often; the first time, which loads the terminal too, is told apart. */
const TIMES = 31;

type Watched = { clicked: number; waited: number[] };
declare global {
  var watched: Watched;
}

test("how long a serial console takes from the click to its first byte", async ({ page }) => {
  test.setTimeout(900_000);
  await page.addInitScript(() => {
    const watched: Watched = { clicked: 0, waited: [] };
    globalThis.watched = watched;
    addEventListener("click", () => (watched.clicked = performance.now()), true);
    globalThis.WebSocket = class extends WebSocket {
      constructor(address: string | URL, protocols?: string | string[]) {
        super(address, protocols);
        this.addEventListener("message", () => watched.waited.push(performance.now() - watched.clicked), { once: true });
      }
    };
  });
  await enter(page, "operator", machine("web"));
  for (let time = 1; time <= TIMES; time += 1) {
    await page.getByRole("link", { name: "Serial console", exact: true }).click();
    await expect.poll(() => page.evaluate(() => watched.waited.length)).toBe(time);
    if (time === 1) await shell(page, "web");
    await page.getByRole("button", { name: "Close console of web" }).click();
    await expect(page.getByRole("region", { name: "Serial console of web" })).toHaveCount(0);
  }
  // For who has started this.
  console.log(`figures ${JSON.stringify(await page.evaluate(() => watched.waited))}`);
});
