/** Animates a change of a list: every row moves from its old place to its new one. */

const MOVE = { duration: 260, easing: "cubic-bezier(.2,.8,.2,1)" };

export function moveSmoothly(list: HTMLElement, change: () => void): void {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches || !list.checkVisibility()) return change();
  const before = new Map([...list.children].map((row) => [row, row.getBoundingClientRect().top]));
  change();
  const after = [...list.children].map((row) => [row, row.getBoundingClientRect().top] as const);
  for (const [row, top] of after) {
    const was = before.get(row);
    if (was === undefined) row.animate([{ opacity: 0, transform: "translateY(12px)" }, {}], MOVE);
    else if (was !== top) row.animate([{ transform: `translateY(${was - top}px)` }, {}], MOVE);
  }
}
