/** What the browser tests on a real console are told by whoever has started it: JSON in a variable. */

export type Given = {
  /** Where the console is, `https://NAME`. */
  address: string;
  /** Program and flags of Chromium, which may have to run elsewhere in order to reach that. */
  browser: string;
  browserFlags: string[];
  /** Program and first words of `kubectl` as administrator. */
  kubectl: string[];
  /** The tests' own namespace. */
  namespace: string;
  /** Image of a machine's disk. */
  image: string;
  /** Tokens by user. */
  tokens: Record<string, string>;
};

const VARIABLE = "CATAMARAN_CONSOLE";

function read(): Given {
  const text = process.env[VARIABLE];
  if (text === undefined) throw new Error(`${VARIABLE} is not set: these tests are started by integration/tests, as cargo xtask test does`);
  return JSON.parse(text) as Given;
}

export const given = read();
