// Rows of images that fill the width: each row has one height, and each image keeps its aspect ratio.
//
// The greedy rule of photo galleries: a row ends before or after the image that makes it lower than the target height,
// whichever height is nearer.

const NARROWEST = 0.55;
const WIDEST = 2.4;

/** The aspect ratio of a cell. Extreme images are cropped, unknown ones are squares. */
export function aspectRatio(width, height) {
  if (!(width > 0 && height > 0)) return 1;
  return Math.min(WIDEST, Math.max(NARROWEST, width / height));
}

/**
 * Divide aspect ratios into rows whose heights are near the target. Returns [{start, end, spare}], `end` exclusive.
 * `spare` is the width that an incomplete last row leaves, as an aspect ratio. Unless `isEnd`, an incomplete row is left out: images that come later belong to it,
 * and nothing that is shown may move.
 */
export function divideRows(ratios, width, target, gap, isEnd) {
  const rows = [];
  let start = 0;
  let sum = 0;
  for (let at = 0; at < ratios.length; at += 1) {
    const without = at > start ? (width - gap * (at - start - 1)) / sum : Infinity;
    sum += ratios[at];
    const height = (width - gap * (at - start)) / sum;
    if (height > target) continue;
    const end = without - target < target - height ? at : at + 1;
    rows.push({ start, end, spare: 0 });
    start = end;
    sum = end === at ? ratios[at] : 0;
  }
  if (isEnd && start < ratios.length) {
    const free = width - gap * (ratios.length - start);
    rows.push({ start, end: ratios.length, spare: Math.max(0, free / target - sum) });
  }
  return rows;
}
