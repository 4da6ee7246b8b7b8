// The dialog of one result: the image, its facts, and its provenance through the stages of the pipeline.

import { readResult, showImage } from "../api.js";
import { byId, element, icon } from "../dom.js";
import { copy } from "../menus.js";
import { provenance, table } from "./provenance.js";
import { reportForm } from "./report.js";
import { aspectRatio } from "../results/rows.js";
import { count, dimensions, linkTarget, similarity, visible, visibleUrl } from "../text.js";

/** Handlers: `searchLike(result)`, `addTerm(result, sign)`, `move(step)` to a neighbour, `closed()`, `canMove(result, step)`,
 * `toggleSelected(result)`, `isSelected(result)`. */
export function createDetail({ searchLike, addTerm, move, closed, canMove, toggleSelected, isSelected }) {
  const dialog = byId("detail");
  let loading = null;
  let shown = null;

  dialog.addEventListener("close", () => {
    loading?.abort();
    shown = null;
    dialog.replaceChildren();
    closed();
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // the backdrop
  });
  dialog.addEventListener("keydown", (event) => {
    const isTyping = event.target.matches("input, select, textarea, pre, .scrolls");
    if (isTyping || event.ctrlKey || event.metaKey || event.altKey || !shown) return;
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step && canMove(shown, step)) {
      event.preventDefault();
      move(step);
    }
  });

  /** `isSearched`: it is a result of the search, so that its similarity is to the query. */
  function draw(dataset, result, isComplete, isSearched) {
    const act = (run) => () => {
      dialog.close();
      run();
    };
    const image = element("img", { alt: visible(result.caption) || "No caption", width: 256, height: 256 });
    image.addEventListener("error", () =>
      image.replaceWith(element("p", { class: "broken-note" }, "The stored image cannot be shown.")),
    );
    showImage(image, result.image);
    dialog.replaceChildren(
      element(
        "div",
        { class: "detail-bar" },
        step("previous", "Previous result", -1, result),
        step("next", "Next result", 1, result),
        element("span", { class: "detail-id" }, `Result ${result.id}`),
        element(
          "button",
          {
            type: "button",
            class: "icon",
            title: "Close (Esc)",
            "aria-label": "Close",
            id: "detail-close",
            onclick: () => dialog.close(),
          },
          icon("close"),
        ),
      ),
      element(
        "div",
        { class: "detail-body" },
        element(
          "div",
          { class: "detail-image" },
          element("div", { class: "detail-frame", ratio: aspectRatio(result.width, result.height) }, image),
          element(
            "div",
            { class: "detail-actions" },
            element(
              "button",
              { type: "button", class: "primary", id: "more-like-this", onclick: act(() => searchLike(result)) },
              icon("similar"),
              "More like this",
            ),
            element(
              "button",
              { type: "button", class: "outline", title: "Add to the query", onclick: act(() => addTerm(result, 1)) },
              icon("plus"),
              "Add",
            ),
            element(
              "button",
              {
                type: "button",
                class: "outline",
                title: "Subtract from the query",
                onclick: act(() => addTerm(result, -1)),
              },
              icon("minus"),
              "Subtract",
            ),
            selectButton(result),
            element(
              "button",
              { type: "button", class: "outline", id: "copy-uid", onclick: () => copy(result.uid, "Uid") },
              icon("copy"),
              "Copy uid",
            ),
          ),
          reportForm(dataset, result),
        ),
        element(
          "div",
          { class: "detail-text" },
          element("h2", { id: "detail-title", dir: "auto" }, visible(result.caption) || "No caption"),
          facts(result, isSearched),
          source(result),
          element(
            "div",
            { id: "provenance", "aria-busy": String(!isComplete) },
            isComplete ? [] : element("p", { class: "muted" }, "Reading the provenance"),
          ),
        ),
      ),
    );
  }

  function selectButton(result) {
    const button = element(
      "button",
      { type: "button", class: "outline", title: "Select for export", "aria-pressed": String(isSelected(result)) },
      icon("check"),
      "Select",
    );
    button.addEventListener("click", () => {
      toggleSelected(result);
      button.setAttribute("aria-pressed", String(isSelected(result)));
    });
    return canMove(result, 0) ? button : null;
  }

  function step(name, label, by, result) {
    const isPossible = canMove(result, by);
    return element(
      "button",
      {
        type: "button",
        class: "icon",
        title: `${label} (${by < 0 ? "←" : "→"})`,
        "aria-label": label,
        disabled: !isPossible,
        onclick: () => move(by),
      },
      icon(name),
    );
  }

  async function load(dataset, id) {
    loading?.abort();
    loading = new AbortController();
    try {
      return await readResult(dataset, id, loading.signal);
    } catch (error) {
      if (error.name === "AbortError") return null;
      const place = byId("provenance");
      const message = element(
        "p",
        { class: "warning", role: "alert" },
        `The provenance cannot be shown. ${error.message}`,
      );
      if (place) place.replaceChildren(message);
      else
        dialog.replaceChildren(
          element(
            "div",
            { class: "detail-bar" },
            element(
              "button",
              { type: "button", class: "icon", "aria-label": "Close", onclick: () => dialog.close() },
              icon("close"),
            ),
          ),
          message,
        );
      place?.setAttribute("aria-busy", "false");
      return null;
    }
  }

  return {
    /** Open a result: at once if the grid has it, else when it was read. */
    async open(dataset, id, known) {
      if (!dialog.open) dialog.showModal();
      if (known) {
        shown = known;
        draw(dataset, known, false, true);
        byId("detail-close").focus();
      }
      const read = await load(dataset, id);
      if (!read) return;
      if (!known) {
        shown = read;
        draw(dataset, read, true, false);
        byId("detail-close").focus();
      }
      byId("provenance").replaceChildren(
        element("h3", {}, "Provenance"),
        provenance(read.provenance ?? {}, read.dagster_links ?? []),
        element(
          "details",
          {},
          element("summary", {}, `All columns (${count(Object.keys(read.metadata ?? {}).length)})`),
          table(read.metadata ?? {}),
        ),
      );
      byId("provenance").setAttribute("aria-busy", "false");
    },
    close() {
      if (dialog.open) dialog.close();
    },
    get result() {
      return shown;
    },
  };
}

function facts(result, isSearched) {
  const entries = [
    [
      isSearched ? "Similarity" : "Similarity of image and caption",
      result.similarity === undefined || result.similarity === null ? "" : similarity(result.similarity),
    ],
    ["Original size", dimensions(result.width, result.height)],
    ["NSFW tag", result.nsfw ? visible(result.nsfw) : "no tag"],
    ["Licence", result.licence && result.licence !== "?" ? visible(result.licence) : "unknown"],
    ["Near-duplicates", result.duplicates ? count(result.duplicates) : ""],
  ];
  return element(
    "dl",
    { class: "detail-facts" },
    entries
      .filter(([, value]) => value)
      .map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))),
  );
}

/** The source URL: always as text, and as a link where it is a web address. */
function source(result) {
  const text = visibleUrl(result.url);
  const target = linkTarget(result.url);
  return element(
    "p",
    { class: "source" },
    element("span", { class: "muted" }, "Source "),
    target === null
      ? element("bdi", { class: "url" }, text)
      : element(
          "a",
          { class: "url", href: target, target: "_blank", rel: "noreferrer noopener nofollow" },
          element("bdi", {}, text),
          icon("external"),
        ),
  );
}
