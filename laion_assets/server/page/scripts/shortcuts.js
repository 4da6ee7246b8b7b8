// Keys that work everywhere on the page, and the list of all keys.

import { byId, element, icon } from "./dom.js";

const KEYS = [
  ["/", "Go to the search field"],
  ["Enter", "Search; open the focused result"],
  ["+ or - before words", "Add or subtract a part of the query"],
  ["Backspace", "Remove the last part, in an empty field"],
  ["↓ in the search field", "Go to the results"],
  ["← → ↑ ↓ Home End", "Move through the results"],
  ["m", "More like the focused result"],
  ["+ and -", "Add it to the query, subtract it"],
  ["s", "Select the focused result for export"],
  ["← → in a result", "Previous and next result"],
  ["Esc", "Close"],
  ["?", "This list"],
];

/** Handlers: `focusSearch()`, `focusResults()`. */
export function createShortcuts({ focusSearch, focusResults }) {
  const list = byId("shortcut-list");
  list.append(
    element(
      "div",
      { class: "detail-bar" },
      element("h2", { id: "shortcut-title" }, "Keyboard"),
      element(
        "button",
        { type: "button", class: "icon", "aria-label": "Close", onclick: () => list.close() },
        icon("close"),
      ),
    ),
    element(
      "dl",
      { class: "keys" },
      KEYS.map(([keys, text]) =>
        element("div", {}, element("dt", {}, element("kbd", {}, keys)), element("dd", {}, text)),
      ),
    ),
  );
  list.addEventListener("click", (event) => event.target === list && list.close());
  byId("shortcuts").addEventListener("click", () => list.showModal());

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const isTyping = event.target.matches("input:not([type=checkbox], [type=radio]), select, textarea");
    if (event.target.id === "text" && event.key === "ArrowDown") {
      event.preventDefault();
      focusResults();
    } else if (event.target.id === "text" && event.key === "Escape") event.target.blur();
    else if (isTyping) return;
    else if (event.key === "/") {
      event.preventDefault();
      focusSearch();
    } else if (event.key === "?") list.showModal();
  });
}
