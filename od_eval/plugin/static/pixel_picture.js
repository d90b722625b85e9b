/**
 * Draws a picture with the classes of its pixels, or with those that are wrong.
 *
 *     drawPixels(canvas, {picture, labels, classes, layer: "wrong", pixels: null, width: 640});
 *
 * Vermilion: wrong. Gray: right. Stripes: what does not count. With a choice of pixels only these stand out; blue are
 * those that are right. The colors of classes are those of all pictures of od_eval.
 */

import { penOf } from "./canvas.js";
import { IGNORED } from "./segmentation.js";

/**
 * @typedef {import("./segmentation.js").Labels} Labels
 * @typedef {import("./segmentation.js").Layer} Layer
 * @typedef {import("./segmentation.js").Pixels} Pixels
 * @typedef {[number, number, number, number]} Color red, green, blue, and how opaque, from 0 to 255
 */

/** @type {Record<"wrong" | "right" | "chosen", Color>} chosen: right pixels, of a cell on the diagonal */
export const COLORS = {
  wrong: [213, 94, 0, 235],
  right: [110, 110, 110, 150],
  chosen: [0, 114, 178, 235],
};
const OPACITY = 170;
/** Of other classes than the chosen ones. */
const FAINT = 30;
/** @type {[Color, Color]} */
const STRIPES = [
  [235, 235, 235, 200],
  [90, 90, 90, 200],
];
const STRIPE_WIDTH = 3;
const NO_PICTURE = "rgb(90 90 90)";

/**
 * Draws a picture, and makes the canvas as large as it needs.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {object} scene
 * @param {HTMLImageElement | null} scene.picture null to draw on gray
 * @param {Labels | null} scene.labels null if they are not there
 * @param {{color: string}[]} scene.classes
 * @param {Layer} scene.layer
 * @param {Pixels | null} scene.pixels
 * @param {number} scene.width of the canvas, in CSS pixels
 * @param {number} scene.height
 */
export function drawPixels(canvas, { picture, labels, classes, layer, pixels, width, height }) {
  const pen = penOf(canvas, width, height);
  pen.fillStyle = NO_PICTURE;
  pen.fillRect(0, 0, canvas.width, canvas.height);
  if (picture) pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
  if (!labels || layer === "image") return;
  // On gray, colors are those of the legend.
  pen.globalCompositeOperation = "saturation";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.globalCompositeOperation = "source-over";
  const overlay = document.createElement("canvas");
  overlay.width = labels.width;
  overlay.height = labels.height;
  const colors = colorsOf(labels, classes, layer, pixels);
  /** @type {CanvasRenderingContext2D} */ (overlay.getContext("2d")).putImageData(
    new ImageData(colors, labels.width, labels.height),
    0,
    0,
  );
  // Each pixel of the labels is seen as it is.
  pen.imageSmoothingEnabled = false;
  pen.drawImage(overlay, 0, 0, canvas.width, canvas.height);
}

/**
 * @param {Labels} labels
 * @param {{color: string}[]} classes
 * @param {Exclude<Layer, "image">} layer
 * @param {Pixels | null} pixels
 * @returns {Uint8ClampedArray<ArrayBuffer>} red, green, blue and opacity of each pixel
 */
export function colorsOf({ width, height, groundtruth, prediction }, classes, layer, pixels) {
  const colors = new Uint8ClampedArray(4 * width * height);
  const shown = layer === "prediction" ? prediction : groundtruth;
  const colorsOfClasses = classes.map(({ color }, category) => {
    const opacity = pixels && !pixels.classes.includes(category) ? FAINT : OPACITY;
    return /** @type {Color} */ ([...[1, 3, 5].map((at) => Number.parseInt(color.slice(at, at + 2), 16)), opacity]);
  });
  for (let at = 0; at < groundtruth.length; at++) {
    const [actual, predicted] = [groundtruth[at], prediction[at]];
    const isWrong = actual !== predicted;
    let color;
    if (actual === IGNORED) color = STRIPES[Math.floor(((at % width) + Math.floor(at / width)) / STRIPE_WIDTH) % 2];
    else if (layer !== "wrong") color = colorsOfClasses[shown[at]];
    else if (pixels && !pixels.has(actual, predicted)) color = COLORS.right;
    else color = isWrong ? COLORS.wrong : pixels ? COLORS.chosen : COLORS.right;
    colors.set(color, 4 * at);
  }
  return colors;
}
