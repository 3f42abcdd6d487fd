// Keeps what stands in [data-live] up to date: it is asked for at the attribute's address.
"use strict";

(() => {
  const live = document.querySelector("[data-live]");
  const seconds = 3;

  // Nothing is replaced under somebody's hands, or where nobody looks.
  const isInUse = () =>
    document.hidden || live.querySelector("details[open]") || live.contains(document.activeElement);

  const refresh = async () => {
    if (isInUse()) return;
    try {
      const answer = await fetch(live.dataset.live, { redirect: "manual" });
      if (answer.type === "opaqueredirect") location.reload(); // logged out
      const text = await answer.text();
      if (!isInUse() && answer.ok) live.innerHTML = text;
      live.classList.toggle("stale", !answer.ok);
    } catch {
      live.classList.add("stale"); // the service is away: what is shown grows old
    }
  };

  const repeat = () => setTimeout(async () => { await refresh(); repeat(); }, seconds * 1000);
  document.addEventListener("visibilitychange", refresh);
  repeat();
})();
