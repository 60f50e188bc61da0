// Pages look again by themselves (htmx), but not while nobody sees them, nor while somebody is about to do something.
document.addEventListener("htmx:beforeRequest", (event) => {
  const asks = event.detail.elt;
  if (!asks.hasAttribute("data-live")) return;
  const busy = asks.querySelector("details[open], select:focus, input:focus");
  if (document.hidden || busy) event.preventDefault();
});
// What is chosen in a filter holds at once.
document.addEventListener("change", (event) => {
  const form = event.target.closest("form[data-at-once]");
  if (form && event.target.tagName === "SELECT") form.requestSubmit();
});
