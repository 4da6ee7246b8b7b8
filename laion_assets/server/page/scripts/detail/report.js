// The form by which people report a result to the operator of the server.

import { report } from "../api.js";
import { element, icon, toast } from "../dom.js";

const REASONS = [
  "Unsafe or illegal content",
  "Personal data",
  "My work, and I object",
  "Wrong caption or tag",
  "Other",
];

/** A report form of a result, closed at first. */
export function reportForm(dataset, result) {
  const reason = element(
    "select",
    { "aria-label": "Reason", id: "report-reason" },
    REASONS.map((text) => element("option", {}, text)),
  );
  const note = element("input", {
    type: "text",
    maxLength: 500,
    "aria-label": "Details",
    placeholder: "Details (optional)",
    id: "report-note",
  });
  const state = element("p", { class: "muted", role: "status" });
  const button = element("button", { type: "submit", class: "outline" }, "Send the report");
  const form = element(
    "form",
    {
      class: "report-form",
      onsubmit: async (event) => {
        event.preventDefault();
        button.disabled = true;
        try {
          await report(dataset, result.uid, note.value.trim() ? `${reason.value}: ${note.value.trim()}` : reason.value);
          form.replaceChildren(state);
          state.textContent = "Thank you. The operator of this server has the report.";
          toast("Report sent");
        } catch (error) {
          button.disabled = false;
          state.textContent = `The report was not sent. ${error.message}`;
        }
      },
    },
    reason,
    note,
    button,
    state,
  );
  return element("details", { class: "report" }, element("summary", {}, icon("flag"), "Report this image"), form);
}
