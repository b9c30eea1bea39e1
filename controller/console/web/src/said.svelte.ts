/** What is said to the user: notices, which screen readers hear, and questions before something is lost. */

export type Notice = { id: number; text: string; bad: boolean };
export type Question = { title: string; text: string; items: string[]; yes: string; danger: boolean; answer: (yes: boolean) => void };

/** How long a notice that is no failure stays, ms. */
const STAYS = 6000;
let ids = 0;

export const said = $state<{ notices: Notice[]; question: Question | null }>({ notices: [], question: null });

export function say(text: string, bad = false): void {
  const id = (ids += 1);
  said.notices = [...said.notices.slice(-3), { id, text, bad }];
  if (!bad) setTimeout(() => forget(id), STAYS);
}

export function forget(id: number): void {
  said.notices = said.notices.filter((one) => one.id !== id);
}

export function ask(question: Omit<Question, "answer">): Promise<boolean> {
  said.question?.answer(false);
  return new Promise((resolve) => {
    said.question = {
      ...question,
      answer: (yes) => {
        said.question = null;
        resolve(yes);
      },
    };
  });
}

export function words(failure: unknown): string {
  return failure instanceof Error ? failure.message : String(failure);
}
