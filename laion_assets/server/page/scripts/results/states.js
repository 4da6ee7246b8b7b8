// What stands below or in place of the results: nothing found, the end, an error with what to do.

import { setToken } from "../api.js";
import { byId, element } from "../dom.js";
import { countFilters } from "../query/query.js";
import { count, counted } from "../text.js";

function show(...children) {
  byId("state").replaceChildren(...children);
}

export function showNothing() {
  show();
}

export function showEnd(shown) {
  show(element("p", { class: "end" }, shown > 1 ? `All ${counted(shown, "result")} of this search are shown.` : ""));
}

/** No result. `left` are the counts of rows that were left out. */
export function showEmpty(query, left, clearFilters) {
  const reasons = [];
  if (left.filtered) reasons.push(`${counted(left.filtered, "result")} did not pass the filters.`);
  if (left.hidden) reasons.push(`${counted(left.hidden, "result")} are hidden by the safety rules of this server.`);
  const hasFilters = countFilters(query.filters) > 0;
  show(
    element(
      "div",
      { class: "message" },
      element("h2", {}, "No results"),
      element("p", {}, reasons.join(" ") || "The index has nothing near this query."),
      hasFilters
        ? element("button", { type: "button", class: "primary", onclick: clearFilters }, "Clear the filters")
        : element("p", {}, "Try other words, or remove a part of the query."),
    ),
  );
}

const ADVICE = {
  0: ["The server cannot be reached", "Check your connection. The search runs again when you are online."],
  401: ["A token is needed", "This server answers only with the token that its operator gave you."],
  403: ["Not allowed", ""],
  404: ["Not found", ""],
  413: ["The query is too large", ""],
  429: ["The server is busy", ""],
  503: ["The server is not ready", ""],
};

/** Show an error. With `wait`, the search is repeated after that many seconds. Returns the running timer. */
export function showError(error, { retry, wait }) {
  const [title, advice] =
    ADVICE[error.status] ?? (error.status >= 500 ? ["The server failed", ""] : ["This search is not possible", ""]);
  const countdown = element("p", { class: "countdown", role: "timer" });
  show(
    element(
      "div",
      { class: "message error", role: "alert" },
      element("h2", {}, title),
      error.status === 0 ? null : element("p", {}, error.message),
      advice ? element("p", {}, advice) : null,
      wait === null ? null : countdown,
      error.status === 401
        ? tokenForm(retry)
        : element("button", { type: "button", class: "primary", onclick: retry }, "Try again"),
    ),
  );
  if (error.status === 0) addEventListener("online", retry, { once: true });
  return wait === null ? 0 : countDown(countdown, wait, retry);
}

function countDown(shown, seconds, done) {
  const end = Date.now() + seconds * 1_000;
  const tick = () => {
    const left = Math.ceil((end - Date.now()) / 1_000);
    shown.textContent = left > 0 ? `Trying again in ${count(left)} s` : "Trying again";
  };
  tick();
  const ticking = setInterval(() => (shown.isConnected && Date.now() < end ? tick() : clearInterval(ticking)), 500);
  return setTimeout(() => shown.isConnected && done(), seconds * 1_000);
}

/** A form that keeps a token for this tab, and then repeats the request. */
export function tokenForm(retry) {
  const field = element("input", { type: "password", autocomplete: "off", "aria-label": "Token", required: true });
  return element(
    "form",
    {
      class: "token",
      onsubmit: (event) => {
        event.preventDefault();
        setToken(field.value);
        retry();
      },
    },
    field,
    element("button", { type: "submit", class: "primary" }, "Use the token"),
  );
}
