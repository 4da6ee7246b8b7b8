// Create elements. Text always becomes text nodes: nothing in this page parses HTML from a string.

const SVG = "http://www.w3.org/2000/svg";

/** Create an element. Properties are set as properties where the element has them, else as attributes. */
export function element(tag, properties = {}, ...children) {
  const created = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name === "class") created.className = value;
    else if (name.startsWith("on")) created.addEventListener(name.slice(2), value);
    else if (name === "ratio") created.style.setProperty("--ratio", String(value));
    else if (name in created && !name.startsWith("aria")) created[name] = value;
    else created.setAttribute(name, value);
  }
  created.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return created;
}

/** One of the icons of index.html. */
export function icon(name) {
  const drawing = document.createElementNS(SVG, "svg");
  drawing.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#icon-${name}`);
  drawing.append(use);
  return drawing;
}

/** The element of index.html with this id. */
export function byId(id) {
  return document.getElementById(id);
}

const toasts = byId("toasts");

/** A message that disappears after a few seconds. Screen readers announce it, also over an open dialog. */
export function toast(text) {
  const shown = element("p", { class: "toast" }, text);
  (document.querySelector("dialog[open]") ?? document.body).append(toasts); // what is outside of a dialog is inert
  toasts.replaceChildren(shown);
  setTimeout(() => shown.remove(), 5_000);
}
