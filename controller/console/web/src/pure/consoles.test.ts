import { expect, test } from "vitest";
import { layouts } from "../../keymaps";
import { Recording, plain } from "./asciicast";
import { ending } from "./ending";
import { chord, typed } from "./keys";

const { de, "en-us": us } = layouts();
const codes = (text: string, layout = us!) => typed(text, layout).presses.map((one) => one.filter((press) => press.down).map((press) => press.code).join("+"));

test("a chord is pressed in its order and let go the other way round", () => {
  expect(chord(["ControlLeft", "AltLeft", "Delete"]).map(({ code, down }) => `${code} ${down}`)).toEqual([
    "ControlLeft true", "AltLeft true", "Delete true", "Delete false", "AltLeft false", "ControlLeft false",
  ]);
  expect(chord(["F12"])[0]).toEqual({ keysym: 0xffc9, code: "F12", down: true });
});

test("a text is typed where its letters are on the guest's layout", () => {
  expect(codes("zY@")).toEqual(["KeyZ", "ShiftLeft+KeyY", "ShiftLeft+Digit2"]);
  expect(codes("zY@{ß", de)).toEqual(["KeyY", "ShiftLeft+KeyZ", "AltRight+KeyQ", "AltRight+Digit7", "Minus"]);
  expect(codes("a\r\nb\t")).toEqual(["KeyA", "Enter", "KeyB", "Tab"]);
});

test("what a layout has no key for is told once", () => {
  expect(typed("a漢漢é", us!).missing).toEqual(["漢", "é"]);
  expect(typed("constructor", { name: "", keys: {} }).missing).toContain("c");
});

test("all of ASCII can be typed on the usual layouts", () => {
  const ascii = String.fromCharCode(...Array.from({ length: 95 }, (_, at) => 32 + at));
  const all = layouts();
  const usual = ["en-us", "en-gb", "de", "fr", "es", "it", "sv", "pt-br", "de-ch", "ja"].filter((one) => one in all);
  for (const id of usual) expect([id, typed(ascii, all[id]!).missing.filter((char) => !"^`~'\"".includes(char))]).toEqual([id, []]);
});

test("ends that are final are not tried again, and others ever less often", () => {
  expect([0, 1].map((attempts) => ending(1000, "", attempts).again)).toEqual([2000, null]);
  expect(ending(4001, "an admin has ended it", 0)).toEqual({ words: "an admin has ended it.", again: null });
  expect(ending(4003, "", 0).again).toBeNull();
  expect(ending(4404, "", 0).again).toBe(5000);
  expect([0, 1, 2, 9].map((attempts) => ending(1006, "", attempts).again)).toEqual([500, 1000, 2000, 10_000]);
  expect([0, 3].map((attempts) => ending(4008, "", attempts).again)).toEqual([500, null]);
});

test("a recording has intervals, output and sizes", () => {
  const recording = new Recording(80, 24, "a/db", 1_000_000);
  recording.output(1_000_500, "hi\r\n");
  recording.output(1_000_600, "");
  recording.resize(1_001_500, 100, 30);
  expect(recording.text().trim().split("\n").map((line) => JSON.parse(line))).toEqual([
    { version: 3, term: { cols: 80, rows: 24 }, timestamp: 1000, title: "a/db" },
    [0.5, "o", "hi\r\n"],
    [1, "r", "100x30"],
  ]);
});

test("a log has no escape sequences", () => {
  expect(plain("\x1b[1;32mOK\x1b[0m done\r\n\x1b]0;title\x07next\x1b(B\x08\r\r\n")).toBe("OK done\nnext\n");
  expect(plain("\x1b]0;never ended")).toBe("");
});
