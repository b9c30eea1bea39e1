/** Light, dark, or as the system has it. */

export type Theme = "system" | "light" | "dark";
const KEY = "catamaran.theme";
const chosen = $state<{ theme: Theme }>({ theme: "system" });

export const theme = {
  get current(): Theme {
    return chosen.theme;
  },
  /** The next one: system, light, dark, and from the beginning. */
  turn(): void {
    const next: Record<Theme, Theme> = { system: "light", light: "dark", dark: "system" };
    chosen.theme = next[chosen.theme];
    localStorage.setItem(KEY, chosen.theme);
    apply();
  },
};

function apply(): void {
  if (chosen.theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen.theme;
}

export function begin(): void {
  const kept = localStorage.getItem(KEY);
  if (kept === "light" || kept === "dark") chosen.theme = kept;
  apply();
}
