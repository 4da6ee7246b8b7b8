// Text from strangers (captions, URLs, file names) as visible text, and numbers for people.

const INVISIBLE =
  /[\u0000-\u001f\u007f-\u009f\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u061c\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufeff\uffa0\ufff0-\ufffb\u{1bca0}-\u{1bca3}\u{1d173}-\u{1d17a}\u{e0000}-\u{e0fff}\ud800-\udfff]/gu;
/** As above, and the joiners, which emoji and some scripts need in a caption but a URL does not. */
const INVISIBLE_IN_URL = new RegExp(`[\\u200c\\u200d]|${INVISIBLE.source}`, "gu");

function escape(character) {
  const code = character.codePointAt(0);
  if (code < 0x100) return `\\x${code.toString(16).padStart(2, "0")}`;
  return code < 0x10000 ? `\\u${code.toString(16).padStart(4, "0")}` : `\\U${code.toString(16).padStart(8, "0")}`;
}

/** Write control characters, direction overrides and invisible characters as escapes. A line break is a space. */
export function visible(text) {
  return String(text ?? "")
    .replace(/[ \t\n\v\f\r\u0085\u2028\u2029]+/g, " ")
    .trim()
    .replace(INVISIBLE, escape);
}

/** Like `visible`, for URLs and file names: no character may hide. */
export function visibleUrl(url) {
  return String(url ?? "").replace(INVISIBLE_IN_URL, escape);
}

/** The parsed URL if it may be a link: http or https, without a user name. Else null. */
export function linkTarget(url) {
  let parsed;
  try {
    parsed = new URL(url);
  } catch {
    return null;
  }
  const isWeb = parsed.protocol === "http:" || parsed.protocol === "https:";
  return isWeb && !parsed.username && !parsed.password ? parsed.href : null;
}

const NUMBER = new Intl.NumberFormat("en");

export function count(number) {
  return NUMBER.format(number);
}

/** "1 image", "1,204 images". */
export function counted(number, noun) {
  return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}

/** "820 B", "14.2 kB", "3.1 MB". */
export function bytes(number) {
  if (number < 1_000) return `${number} B`;
  const [divisor, unit] = number < 1_000_000 ? [1_000, "kB"] : [1_000_000, "MB"];
  return `${(number / divisor).toFixed(number / divisor < 10 ? 1 : 0)} ${unit}`;
}

export function similarity(number) {
  return number.toFixed(3);
}

/** "640 × 480", or nothing if the size is unknown. */
export function dimensions(width, height) {
  return width && height ? `${width} × ${height}` : "";
}
