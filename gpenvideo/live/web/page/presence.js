// Presence: controls fade when nobody moves, and are back with the first movement.

const QUIET_MS = 3200;

export function watchPresence(mayFade) {
  let timer = 0;
  const body = document.body;
  const fade = () => {
    if (mayFade()) body.classList.add("idle");
    else timer = setTimeout(fade, QUIET_MS);
  };
  const wake = () => {
    body.classList.remove("idle");
    clearTimeout(timer);
    timer = setTimeout(fade, QUIET_MS);
  };
  for (const type of ["pointermove", "pointerdown", "keydown", "focusin", "input"]) {
    document.addEventListener(type, wake, { passive: true });
  }
  // A touch beside the controls hides them at once, as it shows them.
  document.getElementById("stage").addEventListener("pointerdown", (event) => {
    const wasIdle = body.classList.contains("idle");
    if (event.pointerType !== "touch" || event.target.closest(".split") || wasIdle) return;
    setTimeout(() => mayFade() && body.classList.add("idle"), 0);
  });
  wake();
}
