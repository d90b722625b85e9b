/** Semantic segmentation: what an evaluation says of classes, images and pixels. Pure functions, no document. */

import { isolated } from "./format.js";

/**
 * @typedef {object} SegmentedImage
 * @property {string} id
 * @property {number} pixels how many count
 * @property {number} wrong how many of them are predicted as another class
 * @property {number | null} pixel_accuracy
 * @property {number | null} IoU the mean of the classes in the image
 * @property {number | null} worst_class the class with the most wrong pixels; null if none is wrong
 * @property {boolean} has_picture
 * @property {[number, number, number][] | null} confusions actual class, predicted class, pixels of the picture, which
 *   is smaller than the image; null if there is none
 *
 * @typedef {object} Segmentation As the server gives it: `segmentation_data.segmentation` describes it.
 * @property {{name: string, color: string}[]} classes what is called a class elsewhere is an index in these
 * @property {number[][]} confusion pixels by actual class (rows) and predicted class
 * @property {SegmentedImage[]} images
 *
 * @typedef {object} Labels What the pixels of a picture are.
 * @property {number} width
 * @property {number} height
 * @property {Uint16Array} groundtruth a class for each pixel, or `IGNORED`
 * @property {Uint16Array} prediction
 *
 * @typedef {object} Pixels Those that are chosen.
 * @property {string} title
 * @property {(actual: number, predicted: number) => boolean} has
 * @property {number[]} classes that they are of
 *
 * @typedef {keyof typeof LAYERS} Layer
 */

/** Of a pixel that does not count. */
export const IGNORED = 0xffff;

/** What is drawn on a picture. */
export const LAYERS = {
  wrong: "Wrong pixels",
  groundtruth: "Ground truth",
  prediction: "Prediction",
  image: "Image",
};

/**
 * Reads what `segmentation_data.labels` writes.
 * @param {ArrayBuffer} buffer
 * @returns {Labels}
 */
export function parseLabels(buffer) {
  const data = new DataView(buffer);
  const [height, width] = [data.getUint32(0, true), data.getUint32(4, true)];
  const size = height * width;
  // A browser on a machine of the other byte order has died out.
  return {
    width,
    height,
    groundtruth: new Uint16Array(buffer, 8, size),
    prediction: new Uint16Array(buffer, 8 + 2 * size, size),
  };
}

/**
 * The pixels that a name from the address means, as matrix cells and classes have them; null if it means nothing.
 * @param {Segmentation} segmentation
 * @param {string | null} cell `confusion/1/2`
 * @param {number | null} category the only class that counts: pixels that are of it or predicted as it, and wrong
 * @returns {Pixels | null}
 */
export function chosenPixels({ classes }, cell, category) {
  const [actual, predicted] = (/^confusion\/(\d{1,5})\/(\d{1,5})$/.exec(cell ?? "") ?? []).slice(1).map(Number);
  if (actual < classes.length && predicted < classes.length) {
    const title = titleOfPixels(classes, actual, predicted);
    return { title, has: (a, b) => a === actual && b === predicted, classes: [actual, predicted] };
  }
  if (category === null) return null;
  const title = `Wrong pixels of “${isolated(classes[category].name)}”`;
  return { title, has: (a, b) => a !== b && (a === category || b === category), classes: [category] };
}

/**
 * What a cell of the confusion matrix counts, in words.
 * @param {{name: string}[]} classes
 * @param {number} actual
 * @param {number} predicted
 */
export const titleOfPixels = (classes, actual, predicted) =>
  actual === predicted
    ? `Pixels of “${isolated(classes[actual].name)}”, right`
    : `Pixels of “${isolated(classes[actual].name)}” taken for “${isolated(classes[predicted].name)}”`;

/**
 * Of each image the part of its pixels that is chosen; NaN if it has no picture, or no pixel that counts.
 * @param {Segmentation} segmentation
 * @param {Pixels} pixels
 */
export const partsOfImages = ({ images }, pixels) =>
  images.map(({ confusions }) => {
    let [chosen, all] = [0, 0];
    for (const [actual, predicted, num] of confusions ?? []) {
      all += num;
      if (pixels.has(actual, predicted)) chosen += num;
    }
    return chosen / all;
  });

/**
 * Whether an image has pixels of a class, or predicted as it; of one without a picture nobody knows.
 * @param {SegmentedImage} image
 * @param {number} category
 */
export const hasClass = ({ confusions }, category) =>
  (confusions ?? []).some(([actual, predicted]) => actual === category || predicted === category);

/**
 * The classes in a picture, those with the most wrong pixels first.
 * @param {SegmentedImage} image
 * @returns {{category: number, actual: number, predicted: number, iou: number, wrong: number}[]} parts of its pixels
 *   that are of a class, that are predicted as it, and that are wrong
 */
export function classesOfImage({ confusions }) {
  const all = (confusions ?? []).reduce((sum, [, , num]) => sum + num, 0);
  /** @type {Map<number, {actual: number, predicted: number, right: number}>} */
  const found = new Map();
  const of = (/** @type {number} */ category) => {
    const counted = found.get(category) ?? { actual: 0, predicted: 0, right: 0 };
    found.set(category, counted);
    return counted;
  };
  for (const [actual, predicted, num] of confusions ?? []) {
    of(actual).actual += num;
    of(predicted).predicted += num;
    if (actual === predicted) of(actual).right += num;
  }
  return Array.from(found, ([category, { actual, predicted, right }]) => {
    const union = actual + predicted - right;
    return { category, actual: actual / all, predicted: predicted / all, iou: right / union, wrong: (union - right) / all };
  }).sort((a, b) => b.wrong - a.wrong || b.actual - a.actual || a.category - b.category);
}

/**
 * The classes of a pixel; null outside, and if it does not count.
 * @param {Labels} labels
 * @param {number} x from 0 to 1
 * @param {number} y
 */
export function pixelAt({ width, height, groundtruth, prediction }, x, y) {
  const [column, row] = [Math.floor(x * width), Math.floor(y * height)];
  if (column < 0 || column >= width || row < 0 || row >= height) return null;
  const at = row * width + column;
  return groundtruth[at] === IGNORED ? null : { actual: groundtruth[at], predicted: prediction[at] };
}
