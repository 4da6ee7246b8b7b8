// The grid of results: rows of images, one tab stop, arrow keys, loading of more.

import { createCell } from "./cell.js";
import { byId, element } from "../dom.js";
import { aspectRatio, divideRows } from "./rows.js";

/** Handlers: `open(result)`, `searchLike(result)`, `addTerm(result, sign)`, `select(result, isSelected)`. */
export function createGrid(handlers) {
  const grid = byId("grid");
  let dataset = "";
  let results = [];
  let cells = [];
  let drawn = 0;
  let rows = [];
  let isEnd = false;
  let active = 0;
  let width = 0;
  let wasFocused = false;

  /** Height of a row and gap between images, in pixels: two images in a row on a phone. */
  function measures() {
    if (width < 480) return { target: 190, gap: 12 };
    return { target: width < 900 ? 170 : 196, gap: 16 };
  }

  /** Draw the rows that are complete. Rows that are already there stay. */
  function layout() {
    if (!width) return;
    const ratios = results.slice(drawn).map((result) => aspectRatio(result.width, result.height));
    const { target, gap } = measures();
    grid.style.setProperty("--gap", `${gap}px`);
    const added = divideRows(ratios, width, target, gap, isEnd);
    const offset = drawn;
    for (const { start, end, spare } of added) {
      const row = element("div", { class: "row", role: "row" });
      for (let at = offset + start; at < offset + end; at += 1) {
        cells[at] ??= cell(at);
        row.append(cells[at]);
      }
      if (spare) row.append(element("div", { class: "spare", ratio: spare, "aria-hidden": "true" }));
      grid.append(row);
      rows.push({ start: offset + start, end: offset + end });
      drawn = offset + end;
    }
    if (cells.length) setActive(Math.min(active, drawn - 1), false);
  }

  function relayout() {
    const focused = grid.contains(document.activeElement) ? document.activeElement : null;
    grid.replaceChildren();
    rows = [];
    drawn = 0;
    layout();
    focused?.focus({ preventScroll: true });
  }

  function cell(at) {
    const select = (result, isSelected) => {
      grid.classList.toggle("selecting", grid.querySelector(".cell.selected") !== null);
      handlers.select(result, isSelected);
    };
    const created = createCell(dataset, results[at], { ...handlers, select });
    created.addEventListener("focusin", () => setActive(at, false));
    return created;
  }

  function setActive(at, isFocused) {
    for (const [position, isTabStop] of [
      [active, false],
      [at, true],
    ]) {
      for (const control of cells[position]?.querySelectorAll("button, input") ?? [])
        control.tabIndex = isTabStop ? 0 : -1;
    }
    active = at;
    if (!isFocused) return;
    const opener = cells[at]?.querySelector(".open");
    opener?.focus({ preventScroll: true });
    cells[at]?.scrollIntoView({ block: "nearest" });
  }

  /** The result in the next row whose middle is nearest. */
  function below(step) {
    const row = rows.findIndex(({ start, end }) => start <= active && active < end) + step;
    if (!rows[row]) return active;
    const middle = (at) => {
      const box = cells[at].getBoundingClientRect();
      return box.left + box.width / 2;
    };
    const wanted = middle(active);
    let best = rows[row].start;
    for (let at = best; at < rows[row].end; at += 1)
      if (Math.abs(middle(at) - wanted) < Math.abs(middle(best) - wanted)) best = at;
    return best;
  }

  const MOVES = {
    ArrowRight: () => Math.min(drawn - 1, active + 1),
    ArrowLeft: () => Math.max(0, active - 1),
    ArrowDown: () => below(1),
    ArrowUp: () => below(-1),
    Home: () => 0,
    End: () => drawn - 1,
  };

  grid.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !drawn) return;
    if (MOVES[event.key]) {
      event.preventDefault();
      const next = MOVES[event.key]();
      if (event.key === "ArrowUp" && next === active && rows[0].end > active) byId("text").focus();
      else setActive(next, true);
    } else if (event.key === "m") handlers.searchLike(results[active]);
    else if (event.key === "+") handlers.addTerm(results[active], 1);
    else if (event.key === "-") handlers.addTerm(results[active], -1);
    else if (event.key === "s") cells[active].querySelector("input").click();
  });

  new ResizeObserver(([entry]) => {
    const measured = Math.floor(entry.contentRect.width);
    if (measured === width || !measured) return;
    width = measured;
    if (results.length) relayout();
  }).observe(byId("results"));

  return {
    clear(name) {
      dataset = name;
      wasFocused ||= grid.contains(document.activeElement);
      [results, cells, rows, drawn, isEnd, active] = [[], [], [], 0, false, 0];
      grid.replaceChildren();
    },
    append(more, isLast) {
      grid.hidden = false;
      results = [...results, ...more];
      isEnd = isLast;
      layout();
      // A search from a result by keyboard goes on at its first result.
      if (wasFocused && drawn && document.activeElement === document.body) setActive(0, true);
      wasFocused = false;
    },
    /** Placeholders in the shape of results. */
    showLoading() {
      grid.hidden = false;
      const shapes = [1, 1.3, 0.8, 1.2, 1, 0.9, 1.3, 1.1, 1, 0.8, 1.2, 1.1];
      const looped = Array.from({ length: 36 }, (_, at) => shapes[at % shapes.length]);
      for (const { start, end } of divideRows(looped, width || 1000, measures().target, measures().gap, false)) {
        grid.append(
          element(
            "div",
            { class: "row", "aria-hidden": "true" },
            looped
              .slice(start, end)
              .map((ratio) =>
                element(
                  "div",
                  { class: "cell skeleton", ratio },
                  element("div", { class: "frame" }),
                  element("p"),
                  element("p"),
                ),
              ),
          ),
        );
      }
    },
    hide() {
      grid.hidden = true;
    },
    focusFirst() {
      if (drawn) setActive(active, true);
    },
    focus(result) {
      const at = results.findIndex((one) => one.id === result.id);
      if (at >= 0 && at < drawn) setActive(at, true);
    },
    unselect() {
      for (const box of grid.querySelectorAll(".select-box input:checked")) box.click();
    },
    toggleSelected(result) {
      cells[results.findIndex((one) => one.id === result.id)]?.querySelector("input").click();
    },
    /** The result before or after another one. */
    neighbour(result, step) {
      const at = results.findIndex((one) => one.id === result.id);
      return at < 0 ? null : (results[at + step] ?? null);
    },
  };
}
