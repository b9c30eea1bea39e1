/** How well a text fits what was typed: all letters in their order, the better the closer together. Pure. */

export function score(text: string, typed: string): number {
  const [hay, needle] = [text.toLowerCase(), typed.toLowerCase().replace(/\s+/g, "")];
  if (needle === "") return 1;
  const whole = hay.replace(/\s+/g, "").indexOf(needle);
  if (whole >= 0) return 1000 - whole;
  let at = -1;
  let gaps = 0;
  for (const letter of needle) {
    const next = hay.indexOf(letter, at + 1);
    if (next < 0) return 0;
    if (at >= 0) gaps += next - at - 1;
    at = next;
  }
  return Math.max(500 - gaps * 10, 1);
}
