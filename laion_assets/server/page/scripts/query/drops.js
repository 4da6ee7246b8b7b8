// Images that are dropped on the page or pasted into it, and results that are dragged to the search field.

import { byId } from "../dom.js";
import { imageFile } from "./upload.js";

const RESULT = "application/x-laion-result";

/** Handlers: `chooseFile(file)`, `addResult({dataset, id, uid})`, `addUrl(url)` for an image of another page. */
export function createDrops({ chooseFile, addResult, addUrl }) {
  const layer = byId("drop");
  let depth = 0;

  const isAccepted = (transfer) => ["Files", RESULT, "text/uri-list"].some((type) => transfer?.types.includes(type));
  const end = () => {
    depth = 0;
    layer.hidden = true;
  };

  document.addEventListener("dragenter", (event) => {
    if (!isAccepted(event.dataTransfer)) return;
    event.preventDefault();
    depth += 1;
    layer.hidden = false;
  });
  document.addEventListener("dragleave", () => {
    depth -= 1;
    if (depth <= 0) end();
  });
  document.addEventListener("dragover", (event) => {
    if (!isAccepted(event.dataTransfer)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
  });
  document.addEventListener("dragend", end);
  document.addEventListener("drop", (event) => {
    if (!isAccepted(event.dataTransfer)) return;
    event.preventDefault();
    end();
    const result = event.dataTransfer.getData(RESULT);
    const file = imageFile(event.dataTransfer) ?? event.dataTransfer.files[0];
    if (result) addResult(JSON.parse(result));
    else if (file) chooseFile(file);
    else addUrl(event.dataTransfer.getData("text/uri-list").split("\n")[0].trim());
  });
  document.addEventListener("paste", (event) => {
    const file = imageFile(event.clipboardData);
    if (!file) return;
    event.preventDefault();
    chooseFile(file);
  });
}
