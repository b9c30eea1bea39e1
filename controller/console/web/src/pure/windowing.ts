/** Which rows of a long list are near enough to be drawn. Pure. */

export type Span = { from: number; to: number; before: number; after: number };

/** Rows beyond the edges that are drawn too, so that scrolling shows no gaps. */
const OVER = 12;
/** Lists up to here are drawn whole: a browser's own search finds all of it. */
const WHOLE = 120;

/** `above`: how far the list's top is above the view's, px. */
export function span(count: number, height: number, above: number, view: number): Span {
  if (count <= WHOLE) return { from: 0, to: count, before: 0, after: 0 };
  const first = Math.floor(above / height) - OVER;
  const from = Math.min(Math.max(first, 0), Math.max(count - 1, 0));
  const to = Math.min(Math.max(first + Math.ceil(view / height) + 2 * OVER, from), count);
  return { from, to, before: from * height, after: (count - to) * height };
}
