/** Whether the command palette is open. */

export const palette = $state({ open: false });

export function openPalette(): void {
  palette.open = true;
}
