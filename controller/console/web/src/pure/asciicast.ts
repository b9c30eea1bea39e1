/** Recordings of serial consoles as asciicast v3, and their text without what moves the cursor. Pure. */

/** A recording that grows line by line; times are intervals, as version 3 has them. */
export class Recording {
  #lines: string[];
  #last: number;

  constructor(cols: number, rows: number, title: string, startedAt: number) {
    this.#last = startedAt;
    this.#lines = [JSON.stringify({ version: 3, term: { cols, rows }, timestamp: Math.floor(startedAt / 1000), title })];
  }

  #add(at: number, code: string, data: string): void {
    this.#lines.push(JSON.stringify([Math.max(Math.round(at - this.#last), 0) / 1000, code, data]));
    this.#last = Math.max(at, this.#last);
  }

  output(at: number, text: string): void {
    if (text !== "") this.#add(at, "o", text);
  }

  resize(at: number, cols: number, rows: number): void {
    this.#add(at, "r", `${cols}x${rows}`);
  }

  text(): string {
    return `${this.#lines.join("\n")}\n`;
  }
}

/** Text as a file of lines: without escape sequences and other control characters. */
export function plain(text: string): string {
  // CSI, then OSC and the like up to their end, then two-letter sequences.
  const shown = text.replace(/\x1b\[[0-?]*[ -/]*[@-~]|\x1b[PX^_\]][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]/g, "");
  return shown.replace(/\r+\n/g, "\n").replace(/[\x00-\x08\x0b-\x1f\x7f]/g, "");
}
