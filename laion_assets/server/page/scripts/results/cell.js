// One result in the grid: its image, its facts, and the buttons that appear over it.

import { showImage } from "../api.js";
import { element, icon } from "../dom.js";
import { aspectRatio } from "./rows.js";
import { count, dimensions, similarity, visible } from "../text.js";

/**
 * The cell of a result. Handlers: `open(result)`, `searchLike(result)`, `addTerm(result, sign)`,
 * `select(result, isSelected)`.
 */
export function createCell(dataset, result, { open, searchLike, addTerm, select }) {
  const caption = visible(result.caption) || "No caption";
  const image = element("img", { alt: "", loading: "lazy", decoding: "async", draggable: true });
  const opener = element(
    "button",
    {
      type: "button",
      class: "open",
      tabIndex: -1,
      "aria-label": `${caption}. Similarity ${similarity(result.similarity)}. Open`,
      onclick: () => open(result),
    },
    image,
  );
  image.addEventListener("error", () => {
    opener.classList.add("broken");
    image.hidden = true;
  });
  image.addEventListener("load", () => opener.classList.add("loaded"));
  showImage(image, result.image);
  opener.addEventListener("dragstart", (event) => {
    event.dataTransfer.setData(
      "application/x-laion-result",
      JSON.stringify({ dataset, id: result.id, uid: result.uid }),
    );
    event.dataTransfer.effectAllowed = "copy";
  });
  const box = element("input", { type: "checkbox", tabIndex: -1, "aria-label": `Select ${caption}` });
  box.addEventListener("change", () => {
    created.classList.toggle("selected", box.checked);
    select(result, box.checked);
  });
  const created = element(
    "div",
    { class: "cell", role: "gridcell", ratio: aspectRatio(result.width, result.height) },
    element(
      "div",
      { class: "frame" },
      opener,
      element(
        "label",
        { class: "select-box", title: "Select for export (s)" },
        box,
        element("span", { "aria-hidden": "true" }, icon("check")),
      ),
      element(
        "div",
        { class: "cell-actions" },
        action("similar", "More like this", "m", () => searchLike(result)),
        action("plus", "Add to the query", "+", () => addTerm(result, 1)),
        action("minus", "Subtract from the query", "-", () => addTerm(result, -1)),
      ),
      result.duplicates
        ? element(
            "span",
            {
              class: "duplicates",
              title: `${count(result.duplicates)} near-duplicates are collapsed into this result`,
            },
            `+${count(result.duplicates)}`,
          )
        : null,
    ),
    element("p", { class: "caption", dir: "auto", title: caption }, caption),
    element(
      "p",
      { class: "facts" },
      element(
        "span",
        {},
        element("b", { title: "Similarity (cosine)" }, similarity(result.similarity)),
        element("span", { title: "Original size in pixels" }, dimensions(result.width, result.height)),
      ),
      element(
        "span",
        {},
        element("span", { title: "NSFW tag" }, result.nsfw ? visible(result.nsfw) : "no tag"),
        element("bdi", { title: "Domain" }, visible(result.domain)),
      ),
    ),
  );
  return created;
}

function action(name, label, key, run) {
  return element(
    "button",
    { type: "button", class: "icon", tabIndex: -1, title: `${label} (${key})`, "aria-label": label, onclick: run },
    icon(name),
  );
}
