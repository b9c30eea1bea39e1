/** One stream of a machine: opened with a ticket, opened again when it was lost, and closed with its console. */

import { ending } from "../pure/ending";
import { words } from "../said.svelte";
import { type Channel, type StreamKind, Refusal, server } from "../server";

export type Stage = "Connecting" | "Connected" | "Reconnecting" | "Disconnected";

/** Refusals after which asking again is no use. */
const FINAL = [400, 401, 403, 404];

export class Session {
  stage = $state<Stage>("Connecting");
  /** Why it is not connected. */
  told = $state("");
  readOnly = $state(false);
  /** Its id among the machine's viewers. */
  viewer = $state("");
  #attempts = 0;
  #channel: Channel | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #round = 0;
  #use: (channel: Channel) => void;
  #where: [namespace: string, name: string, kind: StreamKind];

  /** `use` is given each channel before it opens. */
  constructor(namespace: string, name: string, kind: StreamKind, use: (channel: Channel) => void) {
    this.#where = [namespace, name, kind];
    this.#use = use;
  }

  get kind(): StreamKind {
    return this.#where[2];
  }

  async open(): Promise<void> {
    const round = (this.#round += 1);
    clearTimeout(this.#timer);
    this.#channel?.close();
    this.stage = this.#attempts > 0 ? "Reconnecting" : "Connecting";
    try {
      const channel = await server.stream(...this.#where, { readOnly: this.readOnly, replay: true });
      if (round !== this.#round) return channel.close();
      this.#channel = channel;
      this.viewer = channel.viewer;
      this.#use(channel);
      const viewers = channel.onclose;
      channel.onclose = (event) => {
        viewers?.call(channel, event);
        if (round === this.#round) this.#closed(event.code, event.reason);
      };
    } catch (failure) {
      if (round !== this.#round) return;
      const status = failure instanceof Refusal ? failure.status : 0;
      // 409: the machine is down, and may come.
      if (FINAL.includes(status)) this.#end(words(failure));
      else this.#wait(words(failure), status === 409 ? 5000 : ending(1006, "", this.#attempts).again);
    }
  }

  /** Data flows. */
  opened(): void {
    this.#attempts = 0;
    this.stage = "Connected";
    this.told = "";
  }

  /** Opens anew, to read and write or only to read. */
  reads(only: boolean): void {
    this.readOnly = only;
    this.again();
  }

  again(): void {
    this.#attempts = 0;
    void this.open();
  }

  close(): void {
    this.#round += 1;
    clearTimeout(this.#timer);
    this.#channel?.close();
    this.#end("");
  }

  #closed(code: number, reason: string): void {
    const { words: told, again } = ending(code, reason, this.#attempts);
    if (again === null) this.#end(told);
    else this.#wait(told, again);
  }

  #end(told: string): void {
    this.stage = "Disconnected";
    this.told = told;
  }

  #wait(told: string, pause: number | null): void {
    this.stage = "Reconnecting";
    this.told = told;
    this.#attempts += 1;
    this.#timer = setTimeout(() => void this.open(), pause ?? 10_000);
  }
}
