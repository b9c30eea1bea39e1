/** The time, once a second, for ages and progress. */

const clock = $state({ now: Date.now() });
setInterval(() => (clock.now = Date.now()), 1000);

export const now = (): number => clock.now;
