// The search field: text, and the other parts of the query as chips that can be turned to plus or minus and removed.

import { imageAddress, showImage } from "../api.js";
import { byId, element, icon } from "../dom.js";
import { kindOf, parseText } from "./query.js";
import { visible, visibleUrl } from "../text.js";

/** Handlers: `submit({text, terms})` with the whole query, `chooseFile(file)`. */
export function createComposer({ submit, chooseFile }) {
  const text = byId("text");
  const chips = byId("chips");
  const file = byId("file");
  let dataset = "";
  let terms = [];
  let previews = [];

  /** The parts of the query, with what is in the field as the last ones. */
  function parts() {
    const typed = parseText(text.value);
    const added = typed.text ? [{ sign: 1, text: typed.text }] : [];
    return [...terms, ...added, ...typed.terms];
  }

  function commit() {
    submit({ text: "", terms: parts() });
  }

  /** Turn what was typed into chips and begin another part with this sign, as on a pocket calculator. */
  function begin(sign) {
    terms = parts();
    text.value = sign;
    draw();
    text.focus();
    text.setSelectionRange(1, 1);
  }

  function change(at, changed) {
    terms = changed ? terms.with(at, changed) : terms.toSpliced(at, 1);
    draw();
    commit();
    const buttons = chips.querySelectorAll(".chip-sign");
    (buttons[Math.min(at, buttons.length - 1)] ?? text).focus();
  }

  /** Move the words of a part back to the field. */
  function edit(at) {
    const term = terms[at];
    terms = [...terms.toSpliced(at, 1), ...parts().slice(terms.length)];
    text.value = `${term.sign > 0 ? "" : "-"}${term.text}`;
    draw();
    text.focus();
  }

  function draw() {
    for (const address of previews) URL.revokeObjectURL(address);
    previews = [];
    chips.replaceChildren(...terms.map((term, at) => chip(term, at)));
    chips.hidden = terms.length === 0;
    byId("composer").classList.toggle("has-chips", terms.length > 0);
    text.placeholder = terms.length ? "Add words" : "Describe an image";
  }

  function chip(term, at) {
    const isAdded = term.sign > 0;
    const name = label(term);
    return element(
      "li",
      { class: `chip ${isAdded ? "added" : "subtracted"}` },
      element(
        "button",
        {
          type: "button",
          class: "chip-sign",
          title: isAdded ? "Subtract it instead" : "Add it instead",
          "aria-label": `${isAdded ? "Added" : "Subtracted"}: ${name}. ${isAdded ? "Subtract" : "Add"} it instead`,
          onclick: () => change(at, { ...term, sign: -term.sign }),
        },
        icon(isAdded ? "plus" : "minus"),
      ),
      picture(term),
      kindOf(term) === "text"
        ? element(
            "button",
            { type: "button", class: "chip-text", title: `Edit ${name}`, onclick: () => edit(at) },
            element("bdi", {}, name),
          )
        : element("span", { class: "chip-text" }, name),
      element(
        "button",
        {
          type: "button",
          class: "chip-remove",
          title: "Remove",
          "aria-label": `Remove ${name}`,
          onclick: () => change(at, null),
        },
        icon("close"),
      ),
    );
  }

  function picture(term) {
    const kind = kindOf(term);
    if (kind !== "id" && kind !== "blob") return null;
    const image = element("img", { alt: "", width: 28, height: 28 });
    if (kind === "id") {
      showImage(image, imageAddress(dataset, term.id, term.uid));
    } else {
      image.src = URL.createObjectURL(term.blob);
      previews.push(image.src);
    }
    return image;
  }

  byId("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    commit();
  });
  byId("composer").addEventListener("click", (event) => {
    if (event.target === event.currentTarget) text.focus();
  });
  text.addEventListener("keydown", (event) => {
    if (event.key === "Backspace" && text.value === "" && terms.length) {
      event.preventDefault();
      terms = terms.slice(0, -1);
      draw();
      commit();
    }
  });
  byId("plus").addEventListener("click", () => begin("+"));
  byId("minus").addEventListener("click", () => begin("-"));
  byId("upload").addEventListener("click", () => file.click());
  file.addEventListener("change", () => {
    if (file.files.length) chooseFile(file.files[0]);
    file.value = "";
  });

  return {
    show(query) {
      dataset = query.dataset;
      terms = query.terms;
      text.value = query.text;
      draw();
    },
    /** The query as typed so far, with one more term. */
    with(term) {
      return { text: "", terms: [...parts(), term] };
    },
    focus() {
      text.focus();
      text.select();
    },
  };
}

function label(term) {
  switch (kindOf(term)) {
    case "text":
      return visible(term.text);
    case "id":
      return `Result ${term.id}`;
    case "blob":
      return "Uploaded image";
    default:
      return visibleUrl(term.url);
  }
}
