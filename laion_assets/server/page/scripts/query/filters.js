// The form of the filters. A filter is set when its field has a value.

import { byId, element } from "../dom.js";
import { countFilters } from "./query.js";
import { visible } from "../text.js";

const SIZES = [
  ["min_width", "Width from"],
  ["max_width", "to"],
  ["min_height", "Height from"],
  ["max_height", "to"],
];
const SUGGESTIONS = 200;

/** Handler: `change(filters)`. */
export function createFilters({ change }) {
  const panel = byId("filters");
  const button = byId("filters-button");
  const seen = { domain: new Set(), licence: new Set() };
  let tags = element("div");
  const form = element("form", { class: "filter-form", onsubmit: (event) => event.preventDefault() });
  panel.append(form);
  build();

  function build() {
    const slider = element("input", {
      type: "range",
      id: "similarity-slider",
      min: 0,
      max: 1,
      step: 0.01,
      value: 0,
      "aria-label": "Smallest similarity",
    });
    const number = element("input", {
      type: "number",
      name: "min_similarity",
      id: "min_similarity",
      min: -1,
      max: 1,
      step: "any",
      placeholder: "any",
    });
    slider.addEventListener("input", () => (number.value = Number(slider.value) > 0 ? slider.value : ""));
    number.addEventListener("input", () => (slider.value = number.value || 0));
    tags = element("div", { class: "checks" });
    form.append(
      element(
        "div",
        { class: "filter-head" },
        element("h2", {}, "Filters"),
        element("button", { type: "button", class: "quiet", id: "clear-filters", onclick: () => change({}) }, "Clear"),
      ),
      group("Similarity from", "min_similarity", element("div", { class: "pair" }, slider, number)),
      element(
        "fieldset",
        { class: "sizes" },
        element("legend", {}, "Original size, in pixels"),
        SIZES.map(([name, label]) =>
          element(
            "label",
            {},
            element("span", {}, label),
            element("input", { type: "number", name, min: 0, step: "any", placeholder: "any" }),
          ),
        ),
      ),
      group(
        "Caption contains",
        "words",
        element("input", { type: "text", name: "words", id: "words", autocomplete: "off", placeholder: "words" }),
      ),
      group(
        "Domain",
        "domain",
        element("input", {
          type: "text",
          name: "domain",
          id: "domain",
          autocomplete: "off",
          placeholder: "example.org",
        }),
        "domains",
      ),
      group(
        "Licence",
        "licence",
        element("input", { type: "text", name: "licence", id: "licence", autocomplete: "off", placeholder: "any" }),
        "licences",
      ),
      element("fieldset", { class: "tags" }, element("legend", {}, "NSFW tag"), tags),
    );
    form.addEventListener("change", () => form.reportValidity() && change(read()));
  }

  function group(label, id, field, list) {
    if (list) field.setAttribute("list", list);
    return element(
      "div",
      { class: "filter" },
      element("label", { htmlFor: id }, label),
      field,
      list ? element("datalist", { id: list }) : null,
    );
  }

  function read() {
    const filters = {};
    for (const field of form.querySelectorAll("input[name]")) {
      if (field.type === "checkbox") {
        if (field.checked) filters.nsfw = [...(filters.nsfw ?? []), field.value];
      } else if (field.value.trim()) {
        const isSize = SIZES.some(([name]) => name === field.name);
        filters[field.name] = field.type === "number" ? Number(field.value) : field.value.trim();
        if (isSize) filters[field.name] = Math.round(filters[field.name]);
      }
    }
    return filters;
  }

  function toggle(isOpen) {
    panel.hidden = !isOpen;
    button.setAttribute("aria-expanded", String(isOpen));
    byId("body").classList.toggle("with-filters", isOpen);
  }

  button.addEventListener("click", () => {
    toggle(panel.hidden);
    if (!panel.hidden) form.querySelector("input").focus();
  });
  panel.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    toggle(false);
    button.focus();
  });

  return {
    /** Offer the tags of a dataset. Those that the server hides are listed, and cannot be chosen. */
    offer(dataset) {
      seen.domain.clear();
      seen.licence.clear();
      const isShown = (tag) => dataset.shown_tags.includes(tag) || !["NSFW", "UNSURE"].includes(tag);
      tags.replaceChildren(
        ...dataset.nsfw_tags.map((tag) =>
          element(
            "label",
            { class: isShown(tag) ? "" : "off" },
            element("input", { type: "checkbox", name: "nsfw", value: tag, disabled: !isShown(tag) }),
            element("span", {}, visible(tag)),
            isShown(tag) ? null : element("small", {}, "hidden by this server"),
          ),
        ),
      );
      if (!dataset.nsfw_tags.length) tags.append(element("p", {}, "This dataset has no tags."));
    },
    show(query) {
      for (const field of form.querySelectorAll("input[name]")) {
        const value = query.filters[field.name];
        if (field.type === "checkbox") field.checked = (value ?? []).includes(field.value);
        else field.value = value ?? "";
      }
      byId("similarity-slider").value = query.filters.min_similarity ?? 0;
      const set = countFilters(query.filters);
      byId("filter-count").textContent = String(set);
      byId("filter-count").hidden = set === 0;
      byId("clear-filters").disabled = set === 0;
    },
    /** Suggest the domains and licences of results. */
    suggest(results) {
      for (const [name, list] of [
        ["domain", "domains"],
        ["licence", "licences"],
      ]) {
        for (const result of results) {
          if (!result[name] || seen[name].has(result[name]) || seen[name].size >= SUGGESTIONS) continue;
          seen[name].add(result[name]);
          byId(list).append(element("option", { value: result[name] }));
        }
      }
    },
    close() {
      toggle(false);
    },
  };
}
