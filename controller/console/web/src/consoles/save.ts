/** Gives the user a file. */

export function save(name: string, content: BlobPart, type: string): void {
  const url = URL.createObjectURL(new Blob([content], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

/** Part of a file's name: when. */
export const stamp = (): string => new Date().toISOString().replace(/[:.]/g, "-").slice(0, 19);
