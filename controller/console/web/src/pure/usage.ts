/** What machines used in the last quarter of an hour, and the curves of it. Pure. */

/** Numbers of the node, the oldest first; `null` where nobody knows. */
export type Series = (number | null)[];
export type Usage = {
  intervalSeconds: number;
  end: string;
  processors: number;
  memoryBytes: number | null;
  cpu: Series;
  memory: Series;
  resident: Series;
  networkReceive: Series;
  networkTransmit: Series;
  diskRead: Series;
  diskWrite: Series;
};

/** Numbers of a whole curve: a quarter of an hour. */
const WHOLE = 90;

/** The newest number; not a number where there is none. */
export function last(series: Series): number {
  return series.at(-1) ?? Number.NaN;
}

/** The largest number, at least `least`. */
export function most(series: Series, least: number): number {
  return series.reduce<number>((found, value) => Math.max(found, value ?? 0), least);
}

/** What the guest can't give back, where its balloon driver says it; else what QEMU holds. */
export function held(usage: Usage): { series: Series; guest: boolean } {
  const guest = usage.memory.some((value) => value !== null);
  return { series: guest ? usage.memory : usage.resident, guest };
}

/** The `d` of an SVG path through the numbers, the newest at the right edge, with gaps. `top` is the number at the upper edge. */
export function curve(series: Series, top: number, width: number, height: number): string {
  let pen = false;
  const parts: string[] = [];
  series.forEach((value, at) => {
    if (value === null) {
      pen = false;
      return;
    }
    const x = width - ((series.length - 1 - at) * width) / (WHOLE - 1);
    const y = height - (Math.min(value / (top || 1), 1) * height);
    // A number between two gaps is a dot.
    parts.push(`${pen ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}${pen ? "" : "h0.01"}`);
    pen = true;
  });
  return parts.join("");
}
