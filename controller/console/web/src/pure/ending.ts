/** What the end of a stream means, and whether it is opened again by itself. Pure. */

export type Ending = { words: string; again: number | null };

/** Longest pause between two attempts, ms. */
const PAUSE = 10_000;

/** `attempts`: how many have failed since the stream was last open. */
export function ending(code: number, reason: string, attempts: number): Ending {
  const said = reason && reason.replace(/\.?$/, ".");
  const pause = Math.min(500 * 2 ** attempts, PAUSE);
  switch (code) {
    case 1000:
      // Once more: a restarted server can look like it. A machine that has stopped says so then.
      return { words: said || "The guest has closed it.", again: attempts < 1 ? 2000 : null };
    case 4001:
      return { words: said || "Your session has ended; log in again.", again: null };
    case 4003:
      return { words: said || "The right to it was taken away.", again: null };
    case 4008:
      return { words: said || "The ticket was too old.", again: attempts < 3 ? pause : null };
    case 4404:
      return { words: said || "The machine does not run.", again: 5000 };
    default:
      return { words: said || "The connection was lost.", again: pause };
  }
}
