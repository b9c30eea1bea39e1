/** A simulated guest on a serial port: it boots, and answers a few commands. */

import type { Channel, StreamWish } from "../server";
import { Pipe } from "./channel";

const BOOT = [
  "[    0.000000] Linux version 6.12.48 (demo)", "[    0.004211] Command line: console=ttyS0 root=/dev/vda1 ro",
  "[    0.412001] virtio_blk virtio1: [vda] 41943040 512-byte logical blocks", "[    0.731204] EXT4-fs (vda1): mounted filesystem",
  "[  \x1b[32mOK\x1b[0m  ] Started systemd-networkd.", "[  \x1b[32mOK\x1b[0m  ] Reached target multi-user.target.", "",
];

export class Serial {
  #name: string;
  #history = "";
  #typed = "";
  #viewers = new Set<Pipe>();

  constructor(name: string) {
    this.#name = name;
    this.boot();
  }

  boot(): void {
    this.#say(`${BOOT.join("\r\n")}\r\n`);
    this.#prompt();
  }

  end(): void {
    for (const viewer of [...this.#viewers]) viewer.end(1000, "the guest has ended");
  }

  viewer(wish: StreamWish): Channel {
    const begin = () => {
      this.#viewers.add(pipe);
      if (wish.replay) pipe.say(new TextEncoder().encode(this.#history));
    };
    const pipe: Pipe = new Pipe(begin, (data) => !wish.readOnly && this.#hear(data), () => this.#viewers.delete(pipe));
    return pipe;
  }

  #prompt(): void {
    this.#say(`\x1b[1;34mroot@${this.#name}\x1b[0m:~# `);
  }

  #say(text: string): void {
    this.#history = (this.#history + text).slice(-65_536);
    for (const viewer of this.#viewers) viewer.say(new TextEncoder().encode(text));
  }

  #hear(data: Uint8Array): void {
    for (const letter of new TextDecoder().decode(data)) {
      if (letter === "\r" || letter === "\n") {
        this.#say("\r\n");
        this.#run(this.#typed.trim());
        this.#typed = "";
        this.#prompt();
      } else if (letter === "\x7f") {
        if (this.#typed) this.#say("\b \b");
        this.#typed = this.#typed.slice(0, -1);
      } else if (letter >= " ") {
        this.#typed += letter;
        this.#say(letter);
      }
    }
  }

  #run(command: string): void {
    const [word = "", ...rest] = command.split(" ");
    const answers: Record<string, () => string> = {
      "": () => "",
      echo: () => rest.join(" "),
      hostname: () => this.#name,
      uname: () => "Linux demo 6.12.48 x86_64 GNU/Linux",
      // Puts a word on the terminal's clipboard, and asks for what is on it.
      clip: () => `\x1b]52;c;${btoa(rest.join(" "))}\x07\x1b]52;c;?\x07asked`,
      help: () => "clip, echo, hostname, uname, reboot",
    };
    if (word === "reboot") return this.boot();
    const answer = answers[word]?.() ?? `${word}: command not found`;
    if (answer) this.#say(`${answer}\r\n`);
  }
}
