// Where a row comes from: the stages of the pipeline in their order, each with its fields and its Dagster page.

import { element, icon } from "../dom.js";
import { linkTarget, visible } from "../text.js";

/** Fields of each stage. A field that is not listed is shown at the end, so that none is lost. */
const STAGES = [
  ["raw_csv", "Source", ["source_file", "source_row", "sample_id"]],
  ["dedup_parquet", "Deduplicated row", ["parquet_file", "uid"]],
  ["image_shards", "Image shard", ["shard", "key", "fetch"]],
  ["clip_embeddings", "Embedding", ["embedding_file", "embedding_row"]],
  ["knn_indices", "Index", ["index_id", "index_version", "committed_at"]],
];

/** The stages as a list. `links` are {label, url} of Dagster pages; a label names the stage. */
export function provenance(fields, links) {
  const known = new Set(STAGES.flatMap(([, , names]) => names));
  const rest = Object.keys(fields).filter((name) => !known.has(name));
  const left = [...links];
  const steps = STAGES.map(([stage, title, names]) => {
    const own = left.filter(
      (link) => link.label.includes(stage) || (stage === "raw_csv" && link.label.includes("published_parquet")),
    );
    for (const link of own) left.splice(left.indexOf(link), 1);
    return step(
      title,
      stage,
      names.filter((name) => fields[name] !== undefined && fields[name] !== null),
      fields,
      own,
    );
  });
  if (rest.length || left.length) steps.push(step("More", "", rest, fields, left));
  return element("ol", { class: "stages" }, steps);
}

function step(title, stage, names, fields, links) {
  if (!names.length && !links.length) return null;
  return element(
    "li",
    {},
    element(
      "div",
      { class: "stage-head" },
      element("strong", {}, title),
      stage ? element("code", {}, stage) : null,
      links.map(dagsterLink),
    ),
    element(
      "dl",
      {},
      names.flatMap((name) => entries(name, fields[name])),
    ),
  );
}

function dagsterLink({ label, url }) {
  const target = linkTarget(url);
  if (target === null) return null;
  return element(
    "a",
    {
      class: "dagster",
      href: target,
      target: "_blank",
      rel: "noreferrer noopener",
      "aria-label": `Dagster: ${visible(label)}`,
      title: visible(label),
    },
    "Dagster",
    icon("external"),
  );
}

/** A field as entries of a list; the fields of an object on their own lines. Empty ones are left out. */
function entries(name, value) {
  if (value === null || value === undefined || value === "" || value === "{}") return [];
  if (typeof value === "object" && !Array.isArray(value))
    return Object.entries(value).flatMap(([inner, one]) => entries(inner, one));
  return [
    element(
      "div",
      {},
      element("dt", {}, visible(name).replaceAll("_", " ")),
      element("dd", {}, element("bdi", {}, asText(value))),
    ),
  ];
}

function asText(value) {
  return visible(typeof value === "object" ? JSON.stringify(value) : String(value));
}

/** All columns of a row. */
export function table(columns) {
  return element(
    "table",
    { class: "columns-table" },
    element(
      "tbody",
      {},
      Object.entries(columns).map(([name, value]) =>
        element(
          "tr",
          {},
          element("th", { scope: "row" }, visible(name)),
          element(
            "td",
            {},
            value === null ? element("span", { class: "muted" }, "null") : element("bdi", {}, asText(value)),
          ),
        ),
      ),
    ),
  );
}
