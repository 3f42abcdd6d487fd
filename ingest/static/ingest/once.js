// A second click while the first is under way would bring an answer in place of the one that shows
// a key once.
for (const form of document.querySelectorAll("form.once")) {
  let sent = false;
  form.addEventListener("submit", (event) => {
    if (sent) event.preventDefault();
    sent = true;
  });
  // Back in a page that the browser has kept, it may be sent again.
  addEventListener("pageshow", () => (sent = false));
}

for (const button of document.querySelectorAll("button.copy")) {
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.previousElementSibling.textContent);
    button.textContent = "Copied";
  });
}
