// Pages look again by themselves (htmx), but not while nobody sees them, nor while somebody is about to do something.
document.addEventListener("htmx:beforeRequest", (event) => {
  const asks = event.detail.elt;
  if (!asks.hasAttribute("data-live")) return;
  const busy = asks.querySelector("details[open], select:focus, input:focus");
  if (document.hidden || busy) event.preventDefault();
});
