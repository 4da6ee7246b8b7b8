// The page: one query, shown by its parts. Every change goes through `go`, which also writes the address.

import { listDatasets, readResult } from "./api.js";
import { createComposer } from "./query/composer.js";
import { createDetail } from "./detail/detail.js";
import { byId, element, icon, toast } from "./dom.js";
import { createDrops } from "./query/drops.js";
import { createFilters } from "./query/filters.js";
import { createGrid } from "./results/grid.js";
import { createExportMenu, createShareMenu } from "./menus.js";
import { EMPTY, fromAddress, identity, isEmpty, kindOf, normalize, toAddress } from "./query/query.js";
import { createSearch } from "./results/search.js";
import { createShortcuts } from "./shortcuts.js";
import { showStart } from "./start.js";
import { showError } from "./results/states.js";
import { count, linkTarget, visible } from "./text.js";
import { readUpload, UploadError } from "./query/upload.js";

const DEFAULT_TITLE = document.title;
let datasets = [];
let query = EMPTY;
let shownResults = ""; // identity of the query whose results are shown
const selected = new Map(); // uid -> result
const uploads = new Map(); // key -> upload, for the history of this tab

const present = () => datasets.find((dataset) => dataset.name === query.dataset) ?? datasets[0];
const grid = createGrid({ open: openResult, searchLike, addTerm, select });
const search = createSearch(grid, { found, clearFilters: () => go({ ...query, filters: {} }) });
const composer = createComposer({ submit: ({ text, terms }) => go({ ...query, text, terms }), chooseFile });
const filters = createFilters({ change: (changed) => go({ ...query, filters: changed }) });
const detail = createDetail({
  searchLike,
  addTerm,
  closed: closeResult,
  toggleSelected: (result) => grid.toggleSelected(result),
  isSelected: (result) => selected.has(result.uid),
  canMove: (result, step) => grid.neighbour(result, step) !== null,
  move: (step) => {
    const next = grid.neighbour(detail.result, step);
    query = { ...query, result: next.id };
    history.replaceState(history.state, "", toAddress(query));
    detail.open(query.dataset, next.id, next);
  },
});

/** Show a query, and make it the newest entry of the history. */
function go(changed) {
  const wanted = normalize({ ...changed, result: null });
  if (wanted.terms.length + (wanted.text ? 1 : 0) > present().limits.max_terms) {
    return notify(`A query has at most ${count(present().limits.max_terms)} parts on this server.`);
  }
  if (identity(wanted) === shownResults) {
    show(wanted, false);
    return undefined;
  }
  const keys = wanted.terms.filter((term) => term.key).map((term) => term.key);
  search.keep();
  history.pushState({ uploads: keys }, "", toAddress(wanted));
  show(wanted, false);
  return undefined;
}

function show(wanted, isBack) {
  const isOtherDataset = wanted.dataset !== query.dataset;
  query = wanted;
  byId("notice").hidden = true;
  byId("dataset").value = query.dataset;
  if (isOtherDataset) {
    filters.offer(present());
    byId("dagster").hidden = !linkTarget(present().dagster_url);
    if (!byId("dagster").hidden) byId("dagster").href = linkTarget(present().dagster_url);
  }
  composer.show(query);
  filters.show(query);
  for (const field of byId("index").querySelectorAll("input")) {
    field.checked = field.value === query.index;
    field.disabled = !present().indices.includes(field.value);
  }
  byId("collapse").checked = query.collapse;
  grid.unselect();
  const isStart = isEmpty(query);
  byId("toolbar").hidden = isStart;
  document.body.classList.toggle("is-start", isStart);
  document.title = isStart ? DEFAULT_TITLE : `${visible(query.text) || "Search"} · ${DEFAULT_TITLE}`;
  shownResults = identity(query);
  if (isStart) {
    filters.close();
    search.leave();
    showStart(present(), (text) => go({ ...query, text }));
  } else {
    search.run(query, isBack);
  }
}

/** Show what the address says: at the start, and after the back and forward buttons. */
async function restore(isBack) {
  const kept = (history.state?.uploads ?? []).map((key) => uploads.get(key)).filter(Boolean);
  const { query: read, lost } = fromAddress(location.search, kept);
  const known = datasets.some((dataset) => dataset.name === read.dataset);
  const wanted = { ...read, dataset: known ? read.dataset : datasets[0].name };
  if (identity(wanted) !== shownResults) show(wanted, isBack);
  query = wanted;
  if (wanted.result === null) detail.close();
  else detail.open(wanted.dataset, wanted.result, null);
  if (read.dataset && !known)
    notify(`This server has no dataset "${visible(read.dataset)}". ${wanted.dataset} is shown.`);
  else if (lost)
    notify("This search had an uploaded image, which is not part of a link. Drop the image again to add it.");
  else if (!isBack) await checkResults(wanted);
}

/** A link names results by their place in the index. Say so if another image has that place now. */
async function checkResults(wanted) {
  for (const term of wanted.terms.filter((one) => kindOf(one) === "id")) {
    const found = await readResult(wanted.dataset, term.id).catch(() => null);
    if (found?.uid !== term.uid)
      notify(
        "An image of this link is no longer where it was in the index. The results may differ from those that were shared.",
      );
  }
}

function found(answer, isFirst) {
  filters.suggest(answer.results);
  const collapsed = isFirst ? answer.collapsed : search.collapsed;
  byId("collapsed").textContent = count(collapsed);
  byId("collapsed").hidden = !query.collapse || collapsed === 0;
}

function openResult(result) {
  query = { ...query, result: result.id };
  history.pushState({ ...history.state, isOpened: true }, "", toAddress(query));
  detail.open(query.dataset, result.id, result);
}

function closeResult() {
  const id = query.result;
  if (id === null) return;
  query = { ...query, result: null };
  if (history.state?.isOpened) history.back();
  else history.replaceState(history.state, "", toAddress(query));
  grid.focus({ id });
}

function searchLike(result) {
  leaveResult({ ...query, text: "", terms: [{ sign: 1, id: result.id, uid: result.uid }] });
}

function addTerm(result, sign) {
  const others = query.terms.filter((term) => term.id !== result.id);
  leaveResult({ ...query, terms: [...others, { sign, id: result.id, uid: result.uid }] });
}

/** Go to a query; from an opened result, after its entry of the history is gone. */
function leaveResult(wanted) {
  if (history.state?.isOpened) addEventListener("popstate", () => go(wanted), { once: true });
  else go(wanted);
}

async function chooseFile(file) {
  try {
    const upload = await readUpload(file, present().limits.max_image_bytes);
    uploads.set(upload.key, upload);
    go({ ...query, ...composer.with({ sign: 1, ...upload }) });
  } catch (error) {
    if (!(error instanceof UploadError)) throw error;
    notify(error.message);
  }
}

function addUrl(url) {
  if (!linkTarget(url)) return;
  if (present().limits.image_by_url) go({ ...query, ...composer.with({ sign: 1, url }) });
  else notify("This server does not download images. Save the image, and drop the file.");
}

function select(result, isSelected) {
  if (isSelected) selected.set(result.uid, result);
  else selected.delete(result.uid);
  byId("selected-count").textContent = count(selected.size);
  byId("selected-count").hidden = selected.size === 0;
}

function notify(message) {
  const close = element(
    "button",
    { type: "button", class: "icon", "aria-label": "Close", onclick: () => (byId("notice").hidden = true) },
    icon("close"),
  );
  byId("notice").replaceChildren(element("p", {}, message), close);
  byId("notice").hidden = false;
}

async function start() {
  try {
    datasets = await listDatasets();
  } catch (error) {
    showError(error, { retry: start, wait: null });
    return;
  }
  byId("state").replaceChildren();
  byId("dataset").replaceChildren(...datasets.map(({ name }) => element("option", { value: name }, name)));
  byId("dataset").disabled = datasets.length < 2;
  await restore(false);
  if (!matchMedia("(pointer: coarse)").matches && isEmpty(query)) byId("text").focus();
}

history.scrollRestoration = "manual";
addEventListener("popstate", () => {
  search.keep();
  restore(true);
});
byId("brand").addEventListener("click", (event) => {
  event.preventDefault();
  go({ ...EMPTY, dataset: query.dataset });
});
byId("dataset").addEventListener("change", (event) => {
  const terms = query.terms.filter((term) => kindOf(term) !== "id"); // results have another number there
  if (terms.length < query.terms.length) toast("Results of the other dataset were removed from the query");
  go({ ...EMPTY, dataset: event.target.value, text: query.text, terms });
});
byId("index").addEventListener("change", (event) => go({ ...query, index: event.target.value }));
byId("collapse").addEventListener("change", (event) => go({ ...query, collapse: event.target.checked }));
createShareMenu(() => query);
createExportMenu(() => ({ query, selected: [...selected.keys()], maxRows: present().limits.max_export_rows }));
createShortcuts({ focusSearch: composer.focus, focusResults: grid.focusFirst });
createDrops({
  chooseFile,
  addUrl,
  addResult: ({ dataset, id, uid }) =>
    dataset === query.dataset && go({ ...query, ...composer.with({ sign: 1, id, uid }) }),
});
start();
