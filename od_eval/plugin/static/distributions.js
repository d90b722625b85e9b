/**
 * What the bars of the view "Curves" show: values of detections and of objects, the bins they fall in, and calibration.
 * Pure functions of the object table.
 */

import { FOUND, MISSED, RIGHT, WRONG, judge, matchedIou } from "./table.js";

/**
 * @typedef {import("./table.js").ObjectTable} ObjectTable
 * @typedef {import("./table.js").Choice} Choice
 * @typedef {import("./table.js").Judged} Judged
 * @typedef {object} Distribution
 * @property {"detections" | "objects"} side whose rows it is of
 * @property {number} outcome the outcome of `judge` that a row must have
 * @property {boolean} atConfidence whether only detections from the confidence on count
 * @property {Quantity} quantity
 * @property {string} who for people
 * @typedef {"iou" | "score" | "size" | "aspect"} Quantity
 * @typedef {{low: number, high: number, num: number, meanScore: number, precision: number}} Bin detections of about the
 *   same score: how many, their mean score, and the part that is right
 */

/** @type {Record<string, Distribution>} */
export const DISTRIBUTIONS = {
  iou_right: { side: "detections", outcome: RIGHT, atConfidence: true, quantity: "iou", who: "Right detections" },
  score_right: { side: "detections", outcome: RIGHT, atConfidence: false, quantity: "score", who: "Right detections" },
  score_wrong: { side: "detections", outcome: WRONG, atConfidence: false, quantity: "score", who: "Wrong detections" },
  size_found: { side: "objects", outcome: FOUND, atConfidence: true, quantity: "size", who: "Found objects" },
  size_missed: { side: "objects", outcome: MISSED, atConfidence: true, quantity: "size", who: "Missed objects" },
  size_wrong: { side: "detections", outcome: WRONG, atConfidence: true, quantity: "size", who: "Wrong detections" },
  aspect_found: { side: "objects", outcome: FOUND, atConfidence: true, quantity: "aspect", who: "Found objects" },
  aspect_missed: { side: "objects", outcome: MISSED, atConfidence: true, quantity: "aspect", who: "Missed objects" },
  aspect_wrong: { side: "detections", outcome: WRONG, atConfidence: true, quantity: "aspect", who: "Wrong detections" },
};

/**
 * All bars of a view have the same choice.
 * @type {WeakMap<Choice, {table: ObjectTable, judged: Map<boolean, Judged>}>}
 */
const judgedByChoice = new WeakMap();

const NUM_BINS_OF_CALIBRATION = 10;

/** Half octaves, rounded so that they can be read; 32 and 96 of COCO's sizes are not cut apart. */
const SIZES = [0, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096];
const ASPECT_RATIOS = [0, 0.125, 0.25, 0.5, 0.67, 0.8, 1, 1.25, 1.5, 2, 4, 8, Infinity];

/** @type {WeakMap<ObjectTable, Map<Quantity, number[]>>} */
const edgesOfTables = new WeakMap();

/**
 * The edges of the bins of a quantity. They are the same at every choice, so that bars stay where they are while a
 * slider moves. A bin holds what is not below its lower edge and below its upper one; the last one also holds that.
 * @param {ObjectTable} table
 * @param {Quantity} quantity
 * @returns {number[]} ascending, at least two
 */
export function edges(table, quantity) {
  const known = edgesOfTables.get(table) ?? new Map();
  edgesOfTables.set(table, known);
  if (!known.has(quantity)) known.set(quantity, newEdges(table, quantity));
  return known.get(quantity) ?? [];
}

/**
 * @param {ObjectTable} table
 * @param {Quantity} quantity
 */
function newEdges(table, quantity) {
  if (quantity === "iou") return evenly(0.5, 1, 10);
  if (quantity === "aspect") return ASPECT_RATIOS;
  if (quantity === "score") {
    const [low, high] = range(table.detections.score);
    return low >= 0 && high <= 1 ? evenly(0, 1, 20) : evenly(low, high, 20);
  }
  const largest = Math.sqrt(Math.max(range(table.detections.area)[1], range(table.objects.area)[1]));
  const end = SIZES.findIndex((size) => size > largest);
  return end < 0 ? [...SIZES, Infinity] : SIZES.slice(0, Math.max(end + 1, 2));
}

/**
 * @param {number} low
 * @param {number} high
 * @param {number} num
 */
const evenly = (low, high, num) =>
  Array.from({ length: num + 1 }, (_, at) => Number((low + ((high - low) * at) / num).toPrecision(12)));

/**
 * The lowest and the highest value; 0 and 1 of none.
 * @param {ArrayLike<number>} values
 */
export function range(values) {
  let low = Infinity;
  let high = -Infinity;
  for (let at = 0; at < values.length; at++) {
    if (values[at] < low) low = values[at];
    if (values[at] > high) high = values[at];
  }
  if (low > high) return [0, 1];
  return low === high ? [low, low + 1] : [low, high];
}

/**
 * How many rows fall in each bin of a distribution. Boxes without width or height have no aspect ratio, and no bin.
 * @param {ObjectTable} table
 * @param {Choice} choice
 * @param {string} name of `DISTRIBUTIONS`
 * @returns {number[]}
 */
export function histogram(table, choice, name) {
  const distribution = DISTRIBUTIONS[name];
  const bins = edges(table, distribution.quantity);
  const counts = new Array(bins.length - 1).fill(0);
  forEachValue(table, choice, distribution, (value) => {
    const bin = binOf(bins, value);
    if (bin >= 0) counts[bin]++;
  });
  return counts;
}

/**
 * The rows behind a bar; null if there is no such distribution.
 * @param {ObjectTable} table
 * @param {Choice} choice
 * @param {string} name of `DISTRIBUTIONS`, or `score`: right and wrong detections of any confidence
 * @param {number} low
 * @param {number} high
 * @returns {import("./selection.js").Selection | null}
 */
export function rowsBetween(table, choice, name, low, high) {
  if (!(low < high)) return null;
  if (name === "score") {
    const [right, wrong] = ["score_right", "score_wrong"].map((part) => rowsBetween(table, choice, part, low, high));
    if (!right || !wrong) return null;
    const title = `Right and wrong detections, ${titleOfBin("score", low, high)}`;
    return { title, detections: [...right.detections, ...wrong.detections], objects: [] };
  }
  if (!Object.hasOwn(DISTRIBUTIONS, name)) return null;
  const distribution = DISTRIBUTIONS[name];
  const isLast =
    high === edges(table, distribution.quantity).at(-1) || (distribution.quantity === "score" && high === 1);
  /** @type {number[]} */
  const rows = [];
  forEachValue(table, choice, distribution, (value, row) => {
    if (value >= low && (value < high || (isLast && value === high))) rows.push(row);
  });
  const title = `${distribution.who}, ${titleOfBin(distribution.quantity, low, high)}`;
  return { title, detections: [], objects: [], [distribution.side]: rows };
}

/**
 * A bin in words.
 * @param {Quantity} quantity
 * @param {number} low
 * @param {number} high
 */
export function titleOfBin(quantity, low, high) {
  const short = (/** @type {number} */ value) => String(Number(value.toPrecision(3)));
  const from =
    high === Infinity
      ? `from ${short(low)} on`
      : low === 0
        ? `up to ${short(high)}`
        : `${short(low)} to ${short(high)}`;
  if (quantity === "iou") return `IoU ${from}`;
  if (quantity === "score") return `confidence ${from}`;
  if (quantity === "size") return `size ${from} pixels`;
  return `width / height ${from}`;
}

/**
 * The bin of a value, -1 if it is in none.
 * @param {number[]} bins
 * @param {number} value
 */
function binOf(bins, value) {
  const last = bins.length - 1;
  if (!(value >= bins[0] && value <= bins[last])) return -1;
  let low = 0;
  let high = last;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (value >= bins[middle]) low = middle;
    else high = middle;
  }
  return low;
}

/**
 * @param {ObjectTable} table
 * @param {Choice} choice
 * @param {Distribution} distribution
 * @param {(value: number, row: number) => void} use
 */
function forEachValue(table, choice, { side, outcome, atConfidence, quantity }, use) {
  const outcomes = judged(table, choice, atConfidence)[side];
  const value = VALUES[quantity](table, side, choice.iou);
  for (let row = 0; row < outcomes.length; row++) if (outcomes[row] === outcome) use(value(row), row);
}

/**
 * What is right and wrong, at the confidence of a choice or at any.
 * @param {ObjectTable} table
 * @param {Choice} choice
 * @param {boolean} atConfidence
 * @returns {Judged}
 */
export function judged(table, choice, atConfidence) {
  let known = judgedByChoice.get(choice);
  if (known?.table !== table) {
    known = { table, judged: new Map() };
    judgedByChoice.set(choice, known);
  }
  let outcomes = known.judged.get(atConfidence);
  if (!outcomes) {
    outcomes = judge(table, atConfidence ? choice : { ...choice, confidence: -Infinity });
    known.judged.set(atConfidence, outcomes);
  }
  return outcomes;
}

/**
 * The value of each row.
 * @type {Record<Quantity, (table: ObjectTable, side: Distribution["side"], iou: number) => (row: number) => number>}
 */
const VALUES = {
  iou: (table, _, iou) => (row) => matchedIou(table, row, iou),
  score: (table) => (row) => table.detections.score[row],
  size: (table, side) => (row) => Math.sqrt(Math.max(table[side].area[row], 0)),
  aspect: (table, side) => {
    const { width, height } = table[side];
    return (row) => (width[row] > 0 && height[row] > 0 ? width[row] / height[row] : NaN);
  },
};

/**
 * Whether a confidence of 0.8 means that detections are right in 80% of all cases. As in
 * evaluation/analyses/calibration.py: detections of any confidence that are right or wrong, in ten bins.
 * @param {ObjectTable} table
 * @param {Choice} choice its confidence does not matter
 * @returns {{ece: number | null, bins: Bin[]}} the mean distance between score and precision, null if no detection
 *   counts or scores are not in 0 to 1; and the bins that hold detections
 */
export function calibration(table, choice) {
  const { score } = table.detections;
  const outcomes = judged(table, choice, false).detections;
  const num = new Float64Array(NUM_BINS_OF_CALIBRATION);
  const sum = new Float64Array(NUM_BINS_OF_CALIBRATION);
  const right = new Float64Array(NUM_BINS_OF_CALIBRATION);
  let total = 0;
  for (let row = 0; row < outcomes.length; row++) {
    if (outcomes[row] !== RIGHT && outcomes[row] !== WRONG) continue;
    if (score[row] < 0 || score[row] > 1) return { ece: null, bins: [] };
    const bin = Math.min(Math.floor(score[row] * NUM_BINS_OF_CALIBRATION), NUM_BINS_OF_CALIBRATION - 1);
    total++;
    num[bin]++;
    sum[bin] += score[row];
    if (outcomes[row] === RIGHT) right[bin]++;
  }
  if (!total) return { ece: null, bins: [] };
  const distance = sum.reduce((all, value, bin) => all + Math.abs(value - right[bin]), 0);
  const bins = Array.from(num, (count, bin) => ({
    low: bin / NUM_BINS_OF_CALIBRATION,
    high: (bin + 1) / NUM_BINS_OF_CALIBRATION,
    num: count,
    meanScore: sum[bin] / count,
    precision: right[bin] / count,
  })).filter((bin) => bin.num > 0);
  return { ece: distance / total, bins };
}
