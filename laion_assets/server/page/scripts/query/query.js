// The query as a value, its address, and its request. A query is never changed: `{...query, index: "text"}` is another.
//
// A term is {sign: 1 | -1} and one of {text}, {id, uid} (a result), {blob, key} (an uploaded image), {url}.

export const PAGE_SIZE = 50;

/** Names in the address: [added, subtracted]. */
const TERM_NAMES = {
  text: ["plus", "minus"],
  id: ["like", "unlike"],
  blob: ["image", "not_image"],
  url: ["image_url", "not_image_url"],
};
const NUMBERS = ["min_similarity", "min_width", "min_height", "max_width", "max_height"];
const TEXTS = ["domain", "licence", "words"];

export const EMPTY = { dataset: "", text: "", terms: [], index: "image", collapse: true, filters: {}, result: null };

export function kindOf(term) {
  return Object.keys(TERM_NAMES).find((kind) => term[kind] !== undefined);
}

export function isEmpty(query) {
  return !query.text && query.terms.length === 0;
}

export function hasUpload(query) {
  return query.terms.some((term) => term.key !== undefined);
}

export function countFilters(filters) {
  return Object.keys(filters).length;
}

/** A text stands in the search field if it is the whole query, else it is a part like the others. */
export function normalize(query) {
  if (query.text && query.terms.length)
    return { ...query, text: "", terms: [{ sign: 1, text: query.text }, ...query.terms] };
  const [only] = query.terms;
  if (!query.text && query.terms.length === 1 && only.sign > 0 && only.text)
    return { ...query, text: only.text, terms: [] };
  return query;
}

/** The query string. An uploaded image is only marked: `image=upload`. */
export function toAddress(query) {
  const address = new URLSearchParams();
  if (query.dataset) address.set("dataset", query.dataset);
  if (query.text) address.set("q", query.text);
  for (const term of query.terms) {
    const kind = kindOf(term);
    const name = TERM_NAMES[kind][term.sign > 0 ? 0 : 1];
    const value = { text: term.text, id: `${term.id}.${term.uid}`, blob: "upload", url: term.url }[kind];
    address.append(name, value);
  }
  if (query.index !== "image") address.set("index", query.index);
  if (!query.collapse) address.set("collapse", "false");
  for (const name of [...NUMBERS, ...TEXTS])
    if (query.filters[name] !== undefined) address.set(name, query.filters[name]);
  for (const tag of query.filters.nsfw ?? []) address.append("nsfw", tag);
  if (query.result !== null) address.set("result", query.result);
  return `?${address}`;
}

/** Read an address. `uploads` are the uploaded images of this history entry, in their order. Unknown parts are ignored. */
export function fromAddress(search, uploads = []) {
  const address = new URLSearchParams(search);
  const left = [...uploads];
  const terms = [];
  let lost = 0;
  for (const [name, value] of address) {
    const kind = Object.keys(TERM_NAMES).find((one) => TERM_NAMES[one].includes(name));
    if (!kind) continue;
    const sign = TERM_NAMES[kind][0] === name ? 1 : -1;
    if (kind === "blob") {
      const upload = left.shift();
      if (upload) terms.push({ sign, ...upload });
      else lost += 1;
    } else if (kind === "id") {
      const [id, uid] = value.split(".");
      if (/^\d{1,15}$/.test(id) && uid) terms.push({ sign, id: Number(id), uid });
    } else if (value) {
      terms.push({ sign, [kind]: value });
    }
  }
  const filters = {};
  for (const name of NUMBERS) {
    const number = Number.parseFloat(address.get(name) ?? "");
    if (Number.isFinite(number)) filters[name] = number;
  }
  for (const name of TEXTS) if (address.get(name)) filters[name] = address.get(name);
  if (address.has("nsfw")) filters.nsfw = address.getAll("nsfw");
  const query = normalize({
    dataset: address.get("dataset") ?? "",
    text: address.get("q") ?? "",
    terms,
    index: address.get("index") === "text" ? "text" : "image",
    collapse: address.get("collapse") !== "false",
    filters,
    result: /^\d{1,15}$/.test(address.get("result") ?? "") ? Number(address.get("result")) : null,
  });
  return { query, lost };
}

/** What identifies the results of a query: everything but the opened result. */
export function identity(query) {
  const keys = query.terms.map((term) => term.key ?? "").join(",");
  return `${toAddress({ ...query, result: null })}#${keys}`;
}

async function toBase64(blob) {
  const address = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
  return address.slice(address.indexOf(",") + 1);
}

/** The fields of a search request that an export has, too. */
export async function toRequest(query) {
  const terms = query.text ? [{ weight: 1, text: query.text }] : [];
  for (const term of query.terms) {
    const kind = kindOf(term);
    const value = {
      text: () => ({ text: term.text }),
      id: () => ({ id: term.id }),
      blob: async () => ({ image: await toBase64(term.blob) }),
      url: () => ({ image_url: term.url }),
    }[kind];
    terms.push({ weight: term.sign, ...(await value()) });
  }
  return { dataset: query.dataset, terms, index: query.index, collapse: query.collapse, filters: query.filters };
}

/** Split "red car -toy +wheels" into the text without a sign and signed terms. A sign needs a space before it. */
export function parseText(typed) {
  const parts = ` ${typed.trim()}`.split(/\s([+\-−])(?=[\p{L}\p{N}])/u);
  const terms = [];
  for (let at = 1; at < parts.length; at += 2) {
    const text = parts[at + 1].trim();
    if (text) terms.push({ sign: parts[at] === "+" ? 1 : -1, text });
  }
  return { text: parts[0].trim(), terms };
}
