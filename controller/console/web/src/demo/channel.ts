/** A stream in the browser that looks like a WebSocket to consoles. */

import type { Channel } from "../server";

/** `heard` is called with what the viewer sends, `closed` when it goes. */
export class Pipe implements Channel {
  binaryType = "arraybuffer";
  readyState: number = WebSocket.CONNECTING;
  protocol = "catamaran.console.v1";
  viewer = "demo";
  onopen: ((event: never) => void) | null = null;
  onmessage: ((event: MessageEvent) => void) | null = null;
  onclose: ((event: CloseEvent) => void) | null = null;
  onerror: ((event: never) => void) | null = null;
  #heard: (data: Uint8Array) => void;
  #closed: () => void;

  constructor(opened: () => void, heard: (data: Uint8Array) => void, closed: () => void) {
    this.#heard = heard;
    this.#closed = closed;
    setTimeout(() => {
      if (this.readyState !== WebSocket.CONNECTING) return;
      this.readyState = WebSocket.OPEN;
      this.onopen?.(new window.Event("open") as never);
      opened();
    }, 20);
  }

  send(data: Uint8Array<ArrayBuffer>): void {
    if (this.readyState === WebSocket.OPEN) this.#heard(new Uint8Array(data));
  }

  /** To the viewer. */
  say(data: Uint8Array<ArrayBuffer>): void {
    const copy = data.slice().buffer;
    // Later, as on a wire: an answer must not come while its question is still being read.
    queueMicrotask(() => this.readyState === WebSocket.OPEN && this.onmessage?.(new MessageEvent("message", { data: copy })));
  }

  close(): void {
    this.end(1000, "");
  }

  end(code: number, reason: string): void {
    if (this.readyState === WebSocket.CLOSED) return;
    this.readyState = WebSocket.CLOSED;
    this.#closed();
    this.onclose?.(new CloseEvent("close", { code, reason, wasClean: code === 1000 }));
  }
}
