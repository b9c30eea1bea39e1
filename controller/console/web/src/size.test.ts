import { gzipSync } from "node:zlib";
import { build } from "vite";
import { expect, test } from "vitest";

/** Most that a browser fetches before the first page is seen, gzip, bytes. */
const FIRST = 60 * 1024;

test("the first paint needs at most 60 KB, and neither terminal nor screen", { timeout: 60_000 }, async () => {
  const built = await build({ logLevel: "silent", build: { write: false } });
  const files = new Map([built].flat().flatMap((one) => ("output" in one ? one.output : [])).map((file) => [file.fileName, file]));
  const [...needed] = [...files.values()].filter((file) => file.type === "chunk" && file.isEntry).map((file) => file.fileName);
  for (const name of needed) {
    const file = files.get(name);
    if (file?.type === "chunk") needed.push(...file.imports.filter((other) => !needed.includes(other)));
  }
  const styles = [...files.keys()].filter((name) => /index-.*\.css$/.test(name));
  expect(styles.length).toBeGreaterThan(0);
  const texts = [...needed, ...styles, "index.html"].map((name) => {
    const file = files.get(name);
    return file?.type === "chunk" ? file.code : String(file?.source ?? "");
  });
  const size = texts.reduce((sum, text) => sum + gzipSync(text).length, 0);
  console.log(`first paint: ${(size / 1024).toFixed(1)} KB gzip`);
  expect(size).toBeLessThan(FIRST);
  expect(texts.join("")).not.toMatch(/xterm-helper|RFB 003/);
});
