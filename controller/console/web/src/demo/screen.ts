/** A simulated guest's screen: the server's side of RFB 3.8, as much as a viewer needs (RFC 6143). */

import type { Channel } from "../server";
import { Pipe } from "./channel";

const [WIDTH, HEIGHT] = [800, 500];

/** What the guest shows: its name, and the keys that it was sent. */
export function drawn(name: string, keys: string[]): OffscreenCanvas {
  const canvas = new OffscreenCanvas(WIDTH, HEIGHT);
  const brush = canvas.getContext("2d");
  if (!brush) return canvas;
  const sky = brush.createLinearGradient(0, 0, 0, HEIGHT);
  sky.addColorStop(0, "#123a55");
  sky.addColorStop(1, "#0a1a26");
  brush.fillStyle = sky;
  brush.fillRect(0, 0, WIDTH, HEIGHT);
  brush.textAlign = "center";
  brush.fillStyle = "#e8f4fb";
  brush.font = "600 34px sans-serif";
  brush.fillText(name, WIDTH / 2, 190);
  brush.font = "16px sans-serif";
  brush.fillText("Debian GNU/Linux 13 · simulated screen", WIDTH / 2, 222);
  brush.fillStyle = "#ffffff22";
  brush.fillRect(250, 260, 300, 44);
  brush.fillStyle = "#fff";
  brush.font = "18px monospace";
  brush.fillText(keys.slice(-24).join("") || "type something", WIDTH / 2, 288);
  return canvas;
}

export class Screen {
  channel: Channel;
  #pipe: Pipe;
  #name: string;
  #readOnly: boolean;
  #keys: string[] = [];
  #buffer = new Uint8Array();
  #step: "version" | "security" | "init" | "open" = "version";
  #wanted = false;
  #changed = true;

  constructor(name: string, readOnly: boolean) {
    this.#name = name;
    this.#readOnly = readOnly;
    this.#pipe = new Pipe(() => this.#text("RFB 003.008\n"), (data) => this.#hear(data), () => {});
    this.channel = this.#pipe;
  }

  #text(text: string): void {
    this.#pipe.say(new TextEncoder().encode(text));
  }

  #hear(data: Uint8Array): void {
    const joined = new Uint8Array(this.#buffer.length + data.length);
    joined.set(this.#buffer);
    joined.set(data, this.#buffer.length);
    this.#buffer = joined;
    for (let taken = this.#take(); taken > 0; taken = this.#take()) this.#buffer = this.#buffer.slice(taken);
    this.#update();
  }

  /** Length of the message that was taken; 0: it is not whole yet. */
  #take(): number {
    const at = this.#buffer;
    if (this.#step === "version") {
      if (at.length < 12) return 0;
      this.#step = "security";
      this.#pipe.say(new Uint8Array([1, 1]));
      return 12;
    }
    if (this.#step === "security") {
      if (at.length < 1) return 0;
      this.#step = "init";
      this.#pipe.say(new Uint8Array(4));
      return 1;
    }
    if (this.#step === "init") {
      if (at.length < 1) return 0;
      this.#step = "open";
      this.#greet();
      return 1;
    }
    return this.#message(at);
  }

  #message(at: Uint8Array): number {
    const view = new DataView(at.buffer, at.byteOffset);
    const lengths: Record<number, number> = { 0: 20, 2: 4, 3: 10, 4: 8, 5: 6, 6: 8 };
    let length = lengths[at[0] ?? 255] ?? at.length;
    if (at.length === 0 || at.length < length) return 0;
    if (at[0] === 2) length += 4 * view.getUint16(2);
    if (at[0] === 6) length += Math.abs(view.getInt32(4));
    if (at.length < length) return 0;
    if (at[0] === 3) {
      this.#wanted = true;
      if (at[1] === 0) this.#changed = true;
    }
    if (at[0] === 4 && at[1] === 1) this.#key(view.getUint32(4));
    return length;
  }

  #key(sym: number): void {
    if (this.#readOnly) return;
    if (sym === 0xff08) this.#keys.pop();
    else if (sym >= 0x20 && sym < 0x100) this.#keys.push(String.fromCharCode(sym));
    else if (sym === 0xffff) this.#keys = ["(", "D", "e", "l", ")"];
    else return;
    this.#changed = true;
  }

  #greet(): void {
    const name = new TextEncoder().encode(this.#name);
    const init = new DataView(new ArrayBuffer(24));
    init.setUint16(0, WIDTH);
    init.setUint16(2, HEIGHT);
    // 32 bits, depth 24, little endian, true colour, 8 bits each at 0, 8 and 16.
    new Uint8Array(init.buffer).set([32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 0, 8, 16], 4);
    init.setUint32(20, name.length);
    this.#pipe.say(new Uint8Array(init.buffer));
    this.#pipe.say(name);
  }

  #update(): void {
    if (!this.#wanted || !this.#changed) return;
    this.#wanted = this.#changed = false;
    const pixels = drawn(this.#name, this.#keys).getContext("2d")?.getImageData(0, 0, WIDTH, HEIGHT).data;
    if (!pixels) return;
    const update = new Uint8Array(16 + pixels.length);
    const head = new DataView(update.buffer);
    head.setUint16(2, 1);
    head.setUint16(8, WIDTH);
    head.setUint16(10, HEIGHT);
    update.set(pixels, 16);
    this.#pipe.say(update);
  }
}
