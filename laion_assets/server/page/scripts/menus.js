// The menus of the toolbar: share the address, and export results. Escape and a click outside close them.

import { downloadExport } from "./api.js";
import { byId, element, icon, toast } from "./dom.js";
import { hasUpload, toAddress, toRequest } from "./query/query.js";
import { bytes, count, counted } from "./text.js";

const FORMATS = [
  ["parquet", "Parquet", "metadata of the results"],
  ["csv", "CSV", "metadata, for spreadsheets"],
  ["json", "JSON lines", "metadata, one object a line"],
  ["npy", "uid array", "NumPy, for DataComp's resharder"],
  ["webdataset", "webdataset", "a tar with images and captions"],
];
const DEFAULT_ROWS = 100;

function disclosure(button, panel, fill) {
  const close = (isReturning) => {
    if (panel.hidden) return;
    panel.hidden = true;
    button.setAttribute("aria-expanded", "false");
    if (isReturning) button.focus();
  };
  button.addEventListener("click", () => {
    if (!panel.hidden) return close(true);
    panel.replaceChildren(...fill(close));
    panel.hidden = false;
    button.setAttribute("aria-expanded", "true");
    panel.querySelector("input, button")?.focus();
    return undefined;
  });
  panel.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    close(true);
  });
  document.addEventListener("pointerdown", (event) => {
    if (!panel.contains(event.target) && !button.contains(event.target)) close(false);
  });
}

/** Copy a text. Without a clipboard (a page over plain http), tell how to copy by hand. */
export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    toast(`${what} copied`);
    return true;
  } catch {
    toast(`The browser does not allow copying. Select the ${what.toLowerCase()} and press Ctrl+C.`);
    return false;
  }
}

/** `read()` returns the present query. */
export function createShareMenu(read) {
  disclosure(byId("share-button"), byId("share-menu"), (close) => {
    const query = read();
    const address = new URL(toAddress({ ...query, result: null }), location.href).href;
    const field = element("input", {
      type: "text",
      readOnly: true,
      value: address,
      id: "share-address",
      "aria-label": "Address of this search",
    });
    field.addEventListener("focus", () => field.select());
    const run = async () => {
      if (await copy(address, "Link")) close(true);
      else field.focus();
    };
    return [
      element("h2", {}, "Share this search"),
      hasUpload(query)
        ? element(
            "p",
            { class: "warning" },
            "The uploaded image is not part of the link. Only the other parts of the query are. Open a similar result and use “More like this” to share a search by image.",
          )
        : element("p", {}, "Whoever opens the link on this server sees the same query."),
      element(
        "div",
        { class: "pair" },
        field,
        element("button", { type: "button", class: "primary", onclick: run }, icon("copy"), "Copy"),
      ),
    ];
  });
}

/** `read()` returns {query, selected, maxRows}: selected results by uid, and the limit of rows. */
export function createExportMenu(read) {
  let running = null;
  disclosure(byId("export-button"), byId("export-menu"), (close) => {
    const { query, selected, maxRows } = read();
    const rows = element("input", {
      type: "number",
      id: "export-rows",
      min: 1,
      max: maxRows,
      step: 1,
      value: Math.min(DEFAULT_ROWS, maxRows),
      required: true,
    });
    const all = element("input", { type: "radio", name: "what", checked: selected.length === 0 });
    const some = element("input", {
      type: "radio",
      name: "what",
      checked: selected.length > 0,
      disabled: selected.length === 0,
    });
    const progress = element("p", { class: "progress", role: "status" });
    const cancel = element(
      "button",
      { type: "button", class: "quiet", hidden: true, onclick: () => running?.abort() },
      "Cancel",
    );

    async function run(format) {
      if (!rows.reportValidity() || running) return;
      running = new AbortController();
      cancel.hidden = false;
      progress.textContent = "Preparing";
      try {
        const what = some.checked
          ? { dataset: query.dataset, uids: selected }
          : { ...(await toRequest(query)), k: Number(rows.value), offset: 0 };
        const file = await downloadExport(
          { ...what, format },
          (received) => (progress.textContent = `${bytes(received)} received`),
          running.signal,
        );
        save(file);
        progress.textContent = "";
        toast(
          `${file.name} is saved: ${counted(file.rows, "row")}, ${bytes(file.blob.size)}, recipe ${file.recipe.slice(0, 12)}`,
        );
        close(true);
      } catch (error) {
        progress.textContent = error.name === "AbortError" ? "Cancelled" : error.message;
      } finally {
        running = null;
        cancel.hidden = true;
      }
    }

    return [
      element("h2", {}, "Export"),
      element(
        "div",
        { class: "export-what" },
        element("label", {}, all, element("span", {}, "Best results of this search")),
        element("label", { class: "rows" }, element("span", {}, "Rows, at most ", count(maxRows)), rows),
        element(
          "label",
          { class: selected.length ? "" : "off" },
          some,
          element(
            "span",
            {},
            selected.length ? `Selected results (${count(selected.length)})` : "Selected results (none)",
          ),
        ),
      ),
      element(
        "ul",
        { class: "formats" },
        FORMATS.map(([format, name, content]) =>
          element(
            "li",
            {},
            element(
              "button",
              { type: "button", class: "format", "data-format": format, onclick: () => run(format) },
              element("strong", {}, name),
              element("span", {}, content),
            ),
          ),
        ),
      ),
      element("div", { class: "export-foot" }, progress, cancel),
    ];
  });
}

function save({ blob, name }) {
  const address = URL.createObjectURL(blob);
  element("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
