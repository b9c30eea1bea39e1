/** Lines of text from the chunks in which they arrive. Pure. */
export class Lines {
  #decoder = new TextDecoder();
  #rest = "";

  /** The lines that a chunk completes. */
  take(chunk: Uint8Array): string[] {
    const lines = (this.#rest + this.#decoder.decode(chunk, { stream: true })).split("\n");
    this.#rest = lines.pop() ?? "";
    return lines.filter((line) => line.trim() !== "");
  }
}
