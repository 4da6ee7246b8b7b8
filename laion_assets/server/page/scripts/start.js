// The start page of a dataset: what it has, and example queries with their first images.

import { search, showImage } from "./api.js";
import { byId, element } from "./dom.js";
import { counted, visible } from "./text.js";

const EXAMPLES = 6;
const IMAGES = 4;

/** Show the start page. `choose(text)` runs an example query. */
export function showStart(dataset, choose) {
  const examples = dataset.example_queries.slice(0, EXAMPLES).map((text) => example(dataset, text, choose));
  byId("state").replaceChildren(
    element(
      "div",
      { class: "start" },
      element("h1", {}, `Search ${counted(dataset.images, "image")} by words, by images, or by both`),
      element("p", { class: "lead" }, visible(dataset.description)),
      examples.length ? element("ul", { class: "examples", "aria-label": "Example queries" }, examples) : null,
      element(
        "ul",
        { class: "tips" },
        element(
          "li",
          {},
          element("strong", {}, "Search by an image. "),
          "Drop it anywhere on this page, paste it, or choose a file.",
        ),
        element(
          "li",
          {},
          element("strong", {}, "Combine. "),
          "Write ",
          element("kbd", {}, "red circle -square"),
          " or add and subtract images.",
        ),
        element(
          "li",
          {},
          element("strong", {}, "Use the keys. "),
          element("kbd", {}, "/"),
          " goes to the search field, arrows through the results, ",
          element("kbd", {}, "?"),
          " lists all keys.",
        ),
      ),
      element("p", { class: "facts-line" }, facts(dataset)),
    ),
  );
}

function facts(dataset) {
  const parts = [`Model ${visible(dataset.model)}`, counted(dataset.captions, "caption")];
  if (dataset.hidden_rows)
    parts.push(`${counted(dataset.hidden_rows, "image")} with an unsafe or unsure tag are hidden by this server`);
  else if (dataset.hidden_rows === null) parts.push("images with an unsafe or unsure tag are hidden by this server");
  const safety = dataset.safety_model;
  if (safety) parts.push(`the safety model ${visible(safety.name)} (${safety.sha256.slice(0, 12)}) hides more images`);
  return parts.join(" · ");
}

function example(dataset, text, choose) {
  const strip = element(
    "span",
    { class: "strip", "aria-hidden": "true" },
    Array.from({ length: IMAGES }, () => element("span")),
  );
  fill(dataset, text, strip);
  return element(
    "li",
    {},
    element(
      "button",
      { type: "button", class: "example", onclick: () => choose(text) },
      strip,
      element("span", { class: "example-text" }, visible(text)),
    ),
  );
}

/** Put the first images of an example into its strip. The example also works without them. */
async function fill(dataset, text, strip) {
  const request = {
    dataset: dataset.name,
    terms: [{ weight: 1, text }],
    index: "image",
    k: IMAGES,
    offset: 0,
    collapse: true,
    filters: {},
  };
  let answer;
  try {
    answer = await search(request);
  } catch {
    return;
  }
  answer.results.slice(0, IMAGES).forEach((result, at) => {
    const image = element("img", { alt: "", loading: "lazy", decoding: "async" });
    image.addEventListener("load", () => image.style.setProperty("--zoom", String(borderZoom(image, result))), {
      once: true,
    });
    showImage(image, result.image);
    strip.children[at].append(image);
  });
}

/**
 * How much a stored image must grow in a square so that a border of it is outside. A border was added if the stored
 * image has another shape than the original one.
 */
function borderZoom(image, { width, height }) {
  const stored = image.naturalWidth / image.naturalHeight;
  const original = width > 0 && height > 0 ? width / height : stored;
  return Math.max(stored / original, original / stored);
}
