/** Keys and text for a guest's screen: which keys are pressed and let go, in which order. Pure. */

/** `code` is the key's place, which QEMU takes where it can; the keysym (X11, RFC 6143 7.5.4) is for servers that cannot. */
export type Press = { keysym: number; code: string; down: boolean };
export type Layout = { name: string; keys: Record<string, [scan: number, modifiers: number]> };

const F = (number: number): [string, number] => [`F${number}`, 0xffbd + number];
const KEYSYMS: Record<string, number> = {
  ControlLeft: 0xffe3, AltLeft: 0xffe9, ShiftLeft: 0xffe1, AltRight: 0xfe03, MetaLeft: 0xffeb, Delete: 0xffff, Tab: 0xff09, Escape: 0xff1b,
  Enter: 0xff0d, Backspace: 0xff08, PrintScreen: 0xff61, Space: 0x20,
  ...Object.fromEntries(Array.from({ length: 12 }, (_, at) => F(at + 1))),
  ...Object.fromEntries([..."abcdefghijklmnopqrstuvwxyz"].map((letter) => [`Key${letter.toUpperCase()}`, letter.charCodeAt(0)])),
};

/** The keys of the main block by their scan codes (set 1). */
const ROWS: [from: number, codes: string[]][] = [
  [2, ["Digit1", "Digit2", "Digit3", "Digit4", "Digit5", "Digit6", "Digit7", "Digit8", "Digit9", "Digit0", "Minus", "Equal"]],
  [16, [..."QWERTYUIOP"].map((key) => `Key${key}`).concat("BracketLeft", "BracketRight")],
  [30, [..."ASDFGHJKL"].map((key) => `Key${key}`).concat("Semicolon", "Quote", "Backquote")],
  [43, ["Backslash", ...[..."ZXCVBNM"].map((key) => `Key${key}`), "Comma", "Period", "Slash"]],
  [57, ["Space"]],
  [86, ["IntlBackslash"]],
  [115, ["IntlRo"]],
  [125, ["IntlYen"]],
];
const CODES = new Map(ROWS.flatMap(([from, codes]) => codes.map((code, at) => [from + at, code] as const)));

const press = (code: string, down: boolean, keysym = KEYSYMS[code] ?? 0): Press => ({ keysym, code, down });

/** All are pressed in their order, and let go the other way round. */
export function chord(codes: string[]): Press[] {
  return [...codes.map((code) => press(code, true)), ...[...codes].reverse().map((code) => press(code, false))];
}

/** Combinations of the key menu that browsers or systems keep to themselves. */
export const CHORDS: [label: string, codes: string[]][] = [
  ["Ctrl+Alt+Backspace", ["ControlLeft", "AltLeft", "Backspace"]],
  ["Alt+Tab", ["AltLeft", "Tab"]],
  ["Alt+F4", ["AltLeft", "F4"]],
  ["Windows key", ["MetaLeft"]],
  ["Print screen", ["PrintScreen"]],
  ["Escape", ["Escape"]],
  ...Array.from({ length: 12 }, (_, at): [string, string[]] => [`F${at + 1}`, [`F${at + 1}`]]),
  ...[1, 2, 3, 4, 5, 6, 7].map((number): [string, string[]] => [`Ctrl+Alt+F${number}`, ["ControlLeft", "AltLeft", `F${number}`]]),
  ["SysRq S (write disks)", ["AltLeft", "PrintScreen", "KeyS"]],
  ["SysRq U (mount read-only)", ["AltLeft", "PrintScreen", "KeyU"]],
  ["SysRq E (end processes)", ["AltLeft", "PrintScreen", "KeyE"]],
];

/** Each character's presses on a guest of that layout, and the characters that it has no key for. */
export function typed(text: string, layout: Layout): { presses: Press[][]; missing: string[] } {
  const missing = new Set<string>();
  const presses = [...text.replace(/\r\n?/g, "\n")].flatMap((char): Press[][] => {
    if (char === "\n") return [chord(["Enter"])];
    if (char === "\t") return [chord(["Tab"])];
    const [scan, modifiers] = Object.hasOwn(layout.keys, char) ? (layout.keys[char] ?? [0, 0]) : [0, 0];
    const code = CODES.get(scan);
    if (code === undefined) {
      missing.add(char);
      return [];
    }
    const held = [modifiers & 1 ? "ShiftLeft" : "", modifiers & 2 ? "AltRight" : ""].filter(Boolean);
    const keysym = keysymOf(char);
    return [[...held.map((one) => press(one, true)), press(code, true, keysym), press(code, false, keysym), ...held.reverse().map((one) => press(one, false))]];
  });
  return { presses, missing: [...missing] };
}

/** Latin 1 is itself; the rest is Unicode with a bit set. */
export function keysymOf(char: string): number {
  const point = char.codePointAt(0) ?? 0;
  return point < 0x100 ? point : 0x0100_0000 | point;
}
