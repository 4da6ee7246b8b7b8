// Requests to the service. Paths are relative to the page, so that it also works below a path of a proxy.

const TOKEN = "laion-assets-token";

/** An answer that is not a success. `status` is 0 when no answer came. `retryAfter` is in seconds. */
export class ApiError extends Error {
  constructor(status, code, message, { field = null, retryAfter = null } = {}) {
    super(message);
    Object.assign(this, { status, code, field, retryAfter });
  }
}

export function setToken(token) {
  sessionStorage.setItem(TOKEN, token);
}

function headers(body) {
  const token = sessionStorage.getItem(TOKEN);
  return {
    ...(body === undefined ? {} : { "Content-Type": "application/json" }),
    ...(token ? { Authorization: `Bearer ${token}` } : {}),
  };
}

async function send(path, body, signal) {
  let response;
  try {
    response = await fetch(path, {
      method: body === undefined ? "GET" : "POST",
      headers: headers(body),
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "offline", "The server did not answer.");
  }
  if (!response.ok) throw await readError(response);
  return response;
}

async function readError(response) {
  let error = {};
  try {
    error = (await response.json()).error ?? {};
  } catch {
    // A proxy in between answered with something else than JSON.
  }
  const wait = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  return new ApiError(
    response.status,
    error.code ?? "http",
    error.message ?? `The server answered ${response.status}.`,
    {
      field: error.field,
      retryAfter: Number.isFinite(wait) ? wait : null,
    },
  );
}

export async function listDatasets() {
  return (await (await send("api/datasets")).json()).datasets;
}

export async function search(body, signal) {
  return (await send("api/search", body, signal)).json();
}

export async function readResult(dataset, id, signal) {
  return (await send(`api/results/${encodeURIComponent(dataset)}/${id}`, undefined, signal)).json();
}

export async function report(dataset, uid, reason) {
  await send("api/report", { dataset, uid, reason });
}

/** Download an export. `onBytes` gets the bytes received so far. Returns {blob, name}. */
export async function downloadExport(body, onBytes, signal) {
  const response = await send("api/export", body, signal);
  const disposition = response.headers.get("Content-Disposition") ?? "";
  const name = /filename="?([^";]+)"?/.exec(disposition)?.[1] ?? `${body.dataset}.${body.format}`;
  const parts = [];
  let received = 0;
  const reader = response.body.getReader();
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      parts.push(part.value);
      received += part.value.byteLength;
      onBytes(received);
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "truncated", "The download stopped before its end.");
  }
  const recipe = response.headers.get("X-Recipe-Digest") ?? "";
  const rows = Number(response.headers.get("X-Export-Rows"));
  return { blob: new Blob(parts, { type: response.headers.get("Content-Type") ?? "" }), name, rows, recipe };
}

/** The address of a stored image, relative to the page. */
export function imageAddress(dataset, id, uid) {
  return `images/${encodeURIComponent(dataset)}/${id}/${encodeURIComponent(uid)}.jpg`;
}

/** Show a stored image. With a token, which an `img` cannot send, the image is fetched. */
export async function showImage(image, address) {
  const path = address.replace(/^\//, "");
  if (!sessionStorage.getItem(TOKEN)) {
    image.src = path;
    return;
  }
  try {
    const blob = await (await send(path)).blob();
    image.src = URL.createObjectURL(blob);
    image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
  } catch {
    image.dispatchEvent(new Event("error"));
  }
}
