/** Invented use of a machine, the same at each look of the same moment. */

import type { Usage } from "../pure/usage";

const [NUMBERS, STEP] = [90, 10];

export function used(name: string): Usage {
  const seed = [...name].reduce((sum, letter) => sum + letter.charCodeAt(0), 0);
  const end = Math.floor(Date.now() / 1000 / STEP);
  const wave = (height: number, pace: number) =>
    Array.from({ length: NUMBERS }, (_, at) => {
      const time = end - NUMBERS + at + seed;
      return height * (1 + 0.6 * Math.sin(time / pace) + 0.3 * Math.sin(time * 1.7)) / 2;
    });
  const flat = (count: number) => Array<number>(NUMBERS).fill(count);
  return {
    intervalSeconds: STEP, end: new Date(end * STEP * 1000).toISOString(), processors: 2, memoryBytes: 2 ** 31,
    cpu: wave(0.9, 6), memory: wave(9e8, 30), resident: flat(1.4e9),
    networkReceive: wave(2e6, 9), networkTransmit: wave(4e5, 5), diskRead: wave(3e5, 12), diskWrite: wave(1.2e6, 7),
  };
}
