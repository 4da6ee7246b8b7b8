// An image file as the service takes it: of a format that it decodes, and not larger than its limit.

import { bytes } from "../text.js";

const DECODED_BY_SERVICE = new Set(["image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp"]);
/** Longest side after downscaling, in pixels. Models see 224 to 512 pixels. */
const SIDE = 1024;
const QUALITY = 0.9;

let uploads = 0;

/** Thrown for a file that cannot be searched by. The message is for people. */
export class UploadError extends Error {}

/** Read a file. Returns {blob, key}. It is downscaled on a canvas only where the service would refuse it. */
export async function readUpload(file, maxBytes) {
  uploads += 1;
  const key = `upload-${uploads}`;
  let image;
  try {
    image = await createImageBitmap(file);
  } catch {
    throw new UploadError(
      `"${file.name || "The file"}" cannot be read as an image. Choose a JPEG, PNG, WebP or GIF file.`,
    );
  }
  if (DECODED_BY_SERVICE.has(file.type) && file.size <= maxBytes) {
    image.close();
    return { blob: file, key };
  }
  let side = SIDE;
  let blob = await downscale(image, side);
  while (blob.size > maxBytes && side > 64) {
    side /= 2;
    blob = await downscale(image, side);
  }
  image.close();
  if (blob.size > maxBytes) {
    throw new UploadError(`The image is too large for this server, which takes ${bytes(maxBytes)}.`);
  }
  return { blob, key };
}

async function downscale(image, side) {
  const scale = Math.min(1, side / Math.max(image.width, image.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(image.width * scale));
  canvas.height = Math.max(1, Math.round(image.height * scale));
  const context = canvas.getContext("2d");
  context.fillStyle = "white"; // JPEG has no transparency.
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve, reject) => {
    canvas.toBlob(
      (blob) => (blob ? resolve(blob) : reject(new UploadError("The image cannot be downscaled."))),
      "image/jpeg",
      QUALITY,
    );
  });
}

/** The image file among dropped or pasted things, or null. */
export function imageFile(transfer) {
  return [...(transfer?.files ?? [])].find((file) => file.type.startsWith("image/")) ?? null;
}
