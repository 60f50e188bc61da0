// Pages look again by themselves (htmx), but not while nobody sees them, nor under the hand of somebody who is about to
// do something.
const busy = (part) => part.querySelector("details[open], select:focus, input:focus") !== null;
document.addEventListener("htmx:beforeRequest", (event) => {
  const part = event.detail.elt;
  if (part.hasAttribute("data-live") && (document.hidden || busy(part))) event.preventDefault();
});
document.addEventListener("htmx:beforeSwap", (event) => {
  const part = event.detail.target;
  if (part.hasAttribute("data-live") && busy(part)) event.detail.shouldSwap = false;
});
