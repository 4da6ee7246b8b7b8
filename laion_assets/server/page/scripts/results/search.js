// Run a query: pages of results, one request at a time, with waiting and errors shown where the results would be.

import { search } from "../api.js";
import { byId } from "../dom.js";
import { PAGE_SIZE, identity, toRequest } from "../query/query.js";
import { showEmpty, showEnd, showError, showNothing } from "./states.js";
import { count, counted } from "../text.js";

/** Longest wait before placeholders appear, in ms. Faster answers replace the results without a flash. */
const SKELETON_DELAY_MS = 150;
const KEPT_SEARCHES = 8;
const MAX_RETRIES = 3;

/** Handlers: `found(answer)` after each page, `clearFilters()`. */
export function createSearch(grid, { found, clearFilters }) {
  const kept = new Map(); // identity -> {pages, scroll}: going back shows the same results at once
  let query = null;
  let pages = [];
  let next = null;
  let running = null;
  let retries = 0;
  let timer = 0;
  let isRestoring = false;

  function stop() {
    running?.abort();
    running = null;
    clearTimeout(timer);
  }

  async function load(offset) {
    stop();
    const controller = new AbortController();
    running = controller;
    const current = query;
    const skeleton = setTimeout(() => {
      if (offset > 0) return;
      grid.clear(current.dataset);
      grid.showLoading();
      showNothing();
      byId("summary").textContent = "Searching";
    }, SKELETON_DELAY_MS);
    byId("grid").setAttribute("aria-busy", "true");
    try {
      const request = { ...(await toRequest(current)), k: PAGE_SIZE, offset };
      const answer = await search(request, controller.signal);
      if (running !== controller) return;
      running = null;
      retries = 0;
      clearTimeout(skeleton);
      if (offset === 0) grid.clear(current.dataset);
      pages.push(answer);
      show(answer);
    } catch (error) {
      clearTimeout(skeleton);
      if (error.name === "AbortError" || running !== controller) return;
      running = null;
      fail(error, offset);
    } finally {
      if (running === null) byId("grid").setAttribute("aria-busy", "false");
    }
  }

  function show(answer) {
    next = answer.next_offset;
    found(answer, pages.length === 1);
    const shown = pages.reduce((sum, page) => sum + page.results.length, 0);
    byId("summary").textContent = summarize(shown, next !== null);
    if (shown === 0 && next === null) {
      grid.hide();
      showEmpty(query, sums(), clearFilters);
      return;
    }
    grid.append(answer.results, next === null);
    if (next === null) showEnd(shown);
    else showNothing();
    if (!isRestoring && isNearEnd()) more();
  }

  function fail(error, offset) {
    if (offset === 0) grid.hide();
    byId("summary").textContent = "";
    const retry = () => load(offset);
    const wait = error.status === 429 || error.status === 503 ? Math.min(60, error.retryAfter ?? 5) : null;
    const isAutomatic = wait !== null && retries < MAX_RETRIES;
    if (isAutomatic) retries += 1;
    timer = showError(error, { retry, wait: isAutomatic ? wait : null });
  }

  function sums() {
    const sum = (name) => pages.reduce((total, page) => total + (page[name] ?? 0), 0);
    return { hidden: sum("hidden"), filtered: sum("filtered"), collapsed: sum("collapsed") };
  }

  function summarize(shown, hasMore) {
    const { hidden, filtered } = sums();
    const took = Object.values(pages[0].took_ms ?? {}).reduce((total, ms) => total + ms, 0);
    const parts = [hasMore ? `${counted(shown, "result")} so far` : counted(shown, "result")];
    if (filtered) parts.push(`${count(filtered)} filtered out`);
    if (hidden) parts.push(`${count(hidden)} hidden by the safety rules`);
    parts.push(`${took < 10 ? took.toFixed(1) : Math.round(took)} ms`);
    return parts.join(" · ");
  }

  function isNearEnd() {
    return byId("sentinel").getBoundingClientRect().top < innerHeight + 1_500;
  }

  function more() {
    if (query && next !== null && !running) load(next);
  }

  new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && more(), {
    rootMargin: "1500px",
  }).observe(byId("sentinel"));

  return {
    /** Show the results of a query. `isBack`: from memory where they are, scrolled as they were. */
    run(wanted, isBack = false) {
      stop();
      query = wanted;
      retries = 0;
      next = null;
      const stored = isBack ? kept.get(identity(wanted)) : null;
      pages = [];
      if (!stored) {
        scrollTo(0, 0);
        return load(0);
      }
      grid.clear(wanted.dataset);
      isRestoring = true;
      for (const page of stored.pages) {
        pages.push(page);
        show(page);
      }
      isRestoring = false;
      scrollTo(0, stored.scroll);
      return undefined;
    },
    /** Keep the results for a return to this query. */
    keep() {
      if (!query || !pages.length) return;
      kept.delete(identity(query));
      kept.set(identity(query), { pages: [...pages], scroll: scrollY });
      if (kept.size > KEPT_SEARCHES) kept.delete(kept.keys().next().value);
    },
    leave() {
      stop();
      query = null;
      pages = [];
      next = null;
      grid.hide();
    },
    get collapsed() {
      return sums().collapsed;
    },
  };
}
