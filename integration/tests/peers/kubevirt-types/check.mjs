// Checks objects by TypeScript types that were written for the peer (@kubevirt-ui-ext/kubevirt-api).
//
// Usage: node check.mjs FOLDER OBJECTS
//
// FOLDER is what integration/setup/kubevirt-types made. OBJECTS is a JSON file: [{"name": …, "type": …, "value": …}]; types stand in the modules
// `kubevirt` and `kubernetes`, such as `kubevirt.V1VirtualMachine`. Each value becomes a constant of its type, written out, so that the compiler
// finds wrong types, missing properties and properties that the type doesn't have; gaps.ts mends the types where they lack what the peer has.
// Prints what the compiler finds, each with its line, and ends with 1 then; else it prints how many objects it has checked.

import { spawnSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";

const [folder, objects] = process.argv.slice(2);
const constants = JSON.parse(readFileSync(objects, "utf8"));
const program = [
  'import type * as kubevirt from "@kubevirt-ui-ext/kubevirt-api/kubevirt";',
  'import type * as kubernetes from "@kubevirt-ui-ext/kubevirt-api/kubernetes";',
  ...constants.map(({ name, type, value }) => `export const ${name}: ${type} = ${JSON.stringify(value, null, 2)};`),
].join("\n");

// Beside node_modules, where the compiler looks for the types.
const work = mkdtempSync(join(folder, "check-"));
let found;
try {
  writeFileSync(join(work, "objects.ts"), program);
  copyFileSync(new URL("gaps.ts", import.meta.url), join(work, "gaps.ts"));
  const compiler = resolve(folder, "node_modules/typescript/bin/tsc");
  const options = ["--noEmit", "--strict", "--pretty", "false", "--target", "es2022", "--module", "preserve"];
  found = spawnSync(process.execPath, [compiler, ...options, "gaps.ts", "objects.ts"], { cwd: work, encoding: "utf8" });
} finally {
  rmSync(work, { recursive: true });
}
if (found.error) throw found.error;
if (found.status !== 0) {
  const lines = program.split("\n");
  for (const said of (found.stdout + found.stderr).trimEnd().split("\n")) {
    const line = /objects\.ts\((\d+),/.exec(said);
    console.log(line ? `${said}\n    ${lines[line[1] - 1].trim()}` : said);
  }
  process.exit(1);
}
console.log(constants.length);
