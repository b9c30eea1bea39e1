/** Kubernetes' quantities, and numbers as people read them. Pure. */

const UNITS: Record<string, number> = {
  "": 1, m: 1e-3, k: 1e3, M: 1e6, G: 1e9, T: 1e12, P: 1e15,
  Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30, Ti: 2 ** 40, Pi: 2 ** 50,
};

/** The number of a quantity such as `512Mi` or `250m`; not a number where it is none. */
export function quantity(text: string | number | undefined): number {
  const parts = /^([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([a-zA-Z]*)$/.exec(String(text ?? "").trim());
  const unit = UNITS[parts?.[2] ?? "?"];
  return parts && unit !== undefined ? Number(parts[1]) * unit : Number.NaN;
}

/** Bytes in the largest binary unit, with at most one digit behind the point. */
export function bytes(count: number): string {
  if (!Number.isFinite(count)) return "";
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  const at = Math.min(Math.floor(Math.log2(Math.max(count, 1)) / 10), units.length - 1);
  const value = count / 2 ** (10 * at);
  return `${Number.isInteger(value) || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[at]}`;
}

/** A count with its word. */
export function counted(count: number, word: string, many = `${word}s`): string {
  return `${count} ${count === 1 ? word : many}`;
}
