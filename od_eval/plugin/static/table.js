/**
 * The object table: every detection and every object of an evaluation, who matches whom, and what is counted from it.
 *
 * Pure functions of typed arrays, without a document. The same numbers as those of `od_eval/evaluation/analyses`, which
 * a test compares (tests/plugin/test_table_numbers.py).
 *
 * Greedy matching is prefix-stable: what a detection matches depends only on the detections with higher scores. So one
 * table serves every confidence.
 */

/** As in `od_eval/evaluation/matching.py`, to the last bit. */
export const IOU_THRESHOLDS = [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.8999999999999999, 0.95];

/** What `error` of detections and objects means: TIDE's kinds, as in `od_eval/evaluation/object_table.py`. */
export const ERROR_KINDS = ["", "class", "location", "both", "duplicate", "background", "missed"];

/** Outcomes of detections. */
export const [NOT_USED, RIGHT, WRONG, NEITHER] = [0, 1, 2, 3];
/** Outcomes of objects. */
export const [FOUND, MISSED, IGNORED, OUTSIDE] = [0, 1, 2, 3];

/**
 * @typedef {object} Detections Columns, with a value for each detection; by image, in an image by descending score.
 * @property {number} rows how many
 * @property {Uint32Array} image index in the images of the table
 * @property {Uint16Array} category index in the categories of the table
 * @property {Float32Array} x of the box, in pixels of the original image, as the three that follow
 * @property {Float32Array} y
 * @property {Float32Array} width
 * @property {Float32Array} height
 * @property {Float64Array} area in these pixels, of the mask if masks are matched
 * @property {Float64Array} score
 * @property {Uint8Array} uncounted whether it is not wrong if it matches nothing
 * @property {Int32Array} match 10 values for each: the object that it matches at each of `IOU_THRESHOLDS`; -1 for none
 * @property {Float32Array} iou the highest IoU with an object of the same category, matched or not; 0 if below 0.1
 * @property {Int32Array} iou_row this object; -1 for none
 * @property {Float32Array} iou_other the same with an object of another category
 * @property {Int32Array} iou_other_row
 * @property {Uint8Array} error index in `ERROR_KINDS`, at an IoU of 0.50, if all detections are used
 * @property {Uint8Array} [mask] if masks are matched: the counts of all masks, for `maskOf` in mask.js
 * @property {Uint32Array} [mask_begin] where those of each row begin, and after the last; none without a picture
 *
 * @typedef {object} Objects Columns, with a value for each ground-truth object, by image. Rows are those of detections.
 * @property {number} rows
 * @property {Uint32Array} image
 * @property {Uint16Array} category
 * @property {Float32Array} x
 * @property {Float32Array} y
 * @property {Float32Array} width
 * @property {Float32Array} height
 * @property {Float64Array} area
 * @property {Uint8Array} ignored whether nobody has to find it: a crowd, or difficult
 * @property {Uint8Array} crowd
 * @property {Uint8Array} difficult
 * @property {Int32Array} match
 * @property {Float32Array} iou
 * @property {Int32Array} iou_row
 * @property {Float32Array} iou_other
 * @property {Int32Array} iou_other_row
 * @property {Uint8Array} error
 * @property {Uint8Array} [mask]
 * @property {Uint32Array} [mask_begin]
 *
 * @typedef {object} ObjectTable
 * @property {"bbox" | "segm"} iouType whether boxes or masks are matched
 * @property {{id: number, name: string}[]} categories
 * @property {{id: number | string, width: number, height: number, has_picture: boolean}[]} images
 * @property {Detections} detections
 * @property {Objects} objects
 *
 * @typedef {object} Choice What is looked at.
 * @property {number} confidence detections with this score or more are used
 * @property {number} iou index in `IOU_THRESHOLDS`
 * @property {number | null} category the index of the only category that counts; null for all
 * @property {number} minArea objects of other areas are ignored, as are detections of other areas that match nothing.
 *   It is an approximation: COCO would match again without these objects.
 * @property {number} maxArea both bounds are inside
 *
 * @typedef {object} Judged
 * @property {Uint8Array} detections `NOT_USED`, `RIGHT`, `WRONG` or `NEITHER`
 * @property {Uint8Array} objects `FOUND`, `MISSED`, `IGNORED` or `OUTSIDE` (of the category that counts)
 *
 * @typedef {object} Counts Ratios are null where there is nothing to divide by.
 * @property {number} gt objects to be found; = tp + fn
 * @property {number} dt detections that are right or wrong; = tp + fp
 * @property {number} tp
 * @property {number} fp
 * @property {number} fn
 * @property {number | null} precision
 * @property {number | null} recall
 * @property {number | null} f1
 *
 * @typedef {object} Cuts All different scores, descending, and what holds if the detections from each on are used.
 * @property {Float64Array} confidence
 * @property {Float64Array} tp
 * @property {Float64Array} fp
 * @property {number} gt the number of objects to be found
 *
 * @typedef {object} Curve
 * @property {Float64Array} confidence descending
 * @property {Float64Array} precision 0 where no detection counts
 * @property {Float64Array} recall 0 where there are no objects
 * @property {Float64Array} f1
 *
 * @typedef {object} Confusion
 * @property {string[]} labels names of the categories, and "background" as the last
 * @property {Float64Array} counts a row for each actual category, a column for each predicted one; background last
 * @property {(actual: number, predicted: number) => {detections: number[], objects: number[]}} rowsOf what a cell
 *   counts, by descending score; what is background has no row. Where both are categories, the two belong together.
 *
 * @typedef {object} PerImage A value for each image; NaN where there is none.
 * @property {Float64Array} gt objects to be found
 * @property {Float64Array} tp
 * @property {Float64Array} fp
 * @property {Float64Array} fn
 * @property {Float64Array} precision
 * @property {Float64Array} recall
 * @property {Float64Array} f1
 * @property {Float64Array} meanIou of right detections with their objects
 * @property {Float64Array} worstFp the highest score of a wrong detection
 */

/** @type {Record<string, new (buffer: ArrayBuffer, offset: number, length: number) => ArrayBufferView>} */
const ARRAYS = {
  uint8: Uint8Array,
  uint16: Uint16Array,
  uint32: Uint32Array,
  int32: Int32Array,
  float32: Float32Array,
  float64: Float64Array,
};

/**
 * Reads a table as the server gives it. The columns are views of the buffer.
 * @param {ArrayBuffer} buffer
 * @returns {ObjectTable}
 */
export function parseTable(buffer) {
  const lengthOfHeader = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, lengthOfHeader)));
  const begin = 4 + lengthOfHeader;
  /** @param {{rows: number, columns: Record<string, {dtype: string, offset: number, length: number}>}} part */
  const read = ({ rows, columns }) => ({
    rows,
    ...Object.fromEntries(
      Object.entries(columns).map(([name, { dtype, offset, length }]) => [
        name,
        new ARRAYS[dtype](buffer, begin + offset, length),
      ]),
    ),
  });
  return {
    iouType: header.iou_type,
    categories: header.categories,
    images: header.images,
    detections: /** @type {Detections} */ (read(header.detections)),
    objects: /** @type {Objects} */ (read(header.objects)),
  };
}

/**
 * What is right and what is wrong.
 *
 * A detection is right if it matches an object that is not ignored, wrong if it matches nothing and is counted. An
 * object is found if a detection that is used matches it.
 * @param {ObjectTable} table
 * @param {Choice} choice
 * @returns {Judged}
 */
export function judge(table, choice) {
  const { detections, objects } = table;
  const { confidence, iou, category, minArea, maxArea } = choice;
  const ofObjects = new Uint8Array(objects.rows);
  for (let row = 0; row < objects.rows; row++) {
    const area = objects.area[row];
    if (category !== null && objects.category[row] !== category) ofObjects[row] = OUTSIDE;
    else if (objects.ignored[row] || area < minArea || area > maxArea) ofObjects[row] = IGNORED;
    else {
      const by = objects.match[10 * row + iou];
      ofObjects[row] = by >= 0 && detections.score[by] >= confidence ? FOUND : MISSED;
    }
  }
  const ofDetections = new Uint8Array(detections.rows);
  for (let row = 0; row < detections.rows; row++) {
    if (!(detections.score[row] >= confidence)) continue;
    if (category !== null && detections.category[row] !== category) continue;
    const object = detections.match[10 * row + iou];
    if (object >= 0) ofDetections[row] = ofObjects[object] === IGNORED ? NEITHER : RIGHT;
    else {
      const area = detections.area[row];
      ofDetections[row] = detections.uncounted[row] || area < minArea || area > maxArea ? NEITHER : WRONG;
    }
  }
  return { detections: ofDetections, objects: ofObjects };
}

/**
 * The counts over all categories, and of each.
 * @param {ObjectTable} table
 * @param {Judged} judged
 * @returns {Counts & {perCategory: Counts[]}}
 */
export function counts(table, judged) {
  const of = tally(judged, table.detections.category, table.objects.category, table.categories.length);
  const perCategory = table.categories.map((_, index) => ratios(of.tp[index], of.fp[index], of.fn[index]));
  return { ...ratios(sum(of.tp), sum(of.fp), sum(of.fn)), perCategory };
}

/**
 * The confusion matrix. Objects and detections are matched in two stages, so that a wrong category with a higher score
 * never takes an object from the right one: first within each category; what is left over, one to one across
 * categories, by descending score of the detection, then by descending IoU. What is left over then is background.
 *
 * `choice.category` does not matter here. Masks overlap as the columns `iou_other` say: of each detection and object
 * only the best partner is known.
 * @param {ObjectTable} table
 * @param {Choice} choice
 * @returns {Confusion}
 */
export function confusion(table, choice) {
  const { detections, objects, categories } = table;
  const background = categories.length;
  const size = background + 1;
  const judged = judge(table, { ...choice, category: null });
  // The partner of each detection, and of each object: right or confused.
  const partner = new Int32Array(detections.rows).fill(-1);
  const isTaken = new Uint8Array(objects.rows);
  for (let row = 0; row < detections.rows; row++) {
    if (judged.detections[row] === RIGHT) partner[row] = detections.match[10 * row + choice.iou];
  }
  for (const [detection, object] of confusedPairs(table, judged, choice.iou)) {
    partner[detection] = object;
    isTaken[object] = 1;
  }

  // Rows by cell, and in a cell by descending score: first how many, then where each goes.
  const counted = new Float64Array(size * size);
  const cellOfDetection = (/** @type {number} */ row) =>
    (partner[row] < 0 ? background : objects.category[partner[row]]) * size + detections.category[row];
  const isCounted = (/** @type {number} */ row) => judged.detections[row] === RIGHT || judged.detections[row] === WRONG;
  for (let row = 0; row < detections.rows; row++) if (isCounted(row)) counted[cellOfDetection(row)]++;
  const isMissed = (/** @type {number} */ row) => judged.objects[row] === MISSED && !isTaken[row];
  for (let row = 0; row < objects.rows; row++) if (isMissed(row)) counted[objects.category[row] * size + background]++;

  const first = new Uint32Array(size * size + 1);
  for (let cell = 0; cell < counted.length; cell++) first[cell + 1] = first[cell] + counted[cell];
  const next = first.slice(0, -1);
  const detectionRows = new Int32Array(first[counted.length]).fill(-1);
  const objectRows = new Int32Array(first[counted.length]).fill(-1);
  const order = rowsByScore(table);
  for (let rank = 0; rank < order.length && detections.score[order[rank]] >= choice.confidence; rank++) {
    const row = order[rank];
    if (!isCounted(row)) continue;
    const at = next[cellOfDetection(row)]++;
    detectionRows[at] = row;
    objectRows[at] = partner[row];
  }
  for (let row = 0; row < objects.rows; row++) {
    if (isMissed(row)) objectRows[next[objects.category[row] * size + background]++] = row;
  }
  return {
    labels: [...categories.map(({ name }) => name), "background"],
    counts: counted,
    rowsOf(actual, predicted) {
      const cell = actual * size + predicted;
      const rows = (/** @type {Int32Array} */ all) =>
        Array.from(all.subarray(first[cell], first[cell + 1])).filter((row) => row >= 0);
      return { detections: rows(detectionRows), objects: rows(objectRows) };
    },
  };
}

/**
 * Counts and ratios of each image.
 * @param {ObjectTable} table
 * @param {Judged} judged
 * @param {number} iou the index of the threshold that was judged by
 * @returns {PerImage}
 */
export function perImage(table, judged, iou) {
  const { detections, objects, images } = table;
  const { tp, fp, fn } = tally(judged, detections.image, objects.image, images.length);
  const ious = new Float64Array(images.length);
  const worstFp = new Float64Array(images.length).fill(NaN);
  for (let row = 0; row < detections.rows; row++) {
    const image = detections.image[row];
    if (judged.detections[row] === RIGHT) ious[image] += matchedIou(table, row, iou);
    // In an image, the highest score comes first.
    else if (judged.detections[row] === WRONG && Number.isNaN(worstFp[image])) worstFp[image] = detections.score[row];
  }
  // 0 / 0 is NaN.
  return {
    gt: tp.map((right, image) => right + fn[image]),
    tp,
    fp,
    fn,
    precision: tp.map((right, image) => right / (right + fp[image])),
    recall: tp.map((right, image) => right / (right + fn[image])),
    f1: tp.map((right, image) => (2 * right) / (2 * right + fp[image] + fn[image])),
    meanIou: ious.map((total, image) => total / tp[image]),
    worstFp,
  };
}

/**
 * The IoU of a detection with the object that it matches; another object may overlap it more. 0 without one.
 * @param {ObjectTable} table
 * @param {number} row of the detection
 * @param {number} iou the index of the threshold at which it matches
 */
export function matchedIou({ iouType, detections, objects }, row, iou) {
  const object = detections.match[10 * row + iou];
  if (object < 0) return 0;
  if (object === detections.iou_row[row]) return detections.iou[row];
  if (objects.iou_row[object] === row) return objects.iou[object];
  // Of masks, only the overlaps of the best partners are known: the threshold is what is certain.
  return iouType === "bbox" ? boxIou(detections, row, objects, object) : IOU_THRESHOLDS[iou];
}

/**
 * What every confidence gives, exactly.
 * @param {ObjectTable} table
 * @param {Choice} choice its confidence does not matter
 * @returns {Cuts}
 */
export function cuts(table, choice) {
  const { score } = table.detections;
  const judged = judge(table, { ...choice, confidence: -Infinity });
  const confidence = new Float64Array(score.length);
  const tp = new Float64Array(score.length);
  const fp = new Float64Array(score.length);
  let length = 0;
  let right = 0;
  let wrong = 0;
  const order = rowsByScore(table);
  for (let at = 0; at < order.length; at++) {
    const row = order[at];
    if (judged.detections[row] === NOT_USED) continue;
    // A cut lies only between different scores: detections of the same score are all used, or none of them.
    if (length === 0 || score[row] < confidence[length - 1]) confidence[length++] = score[row];
    if (judged.detections[row] === RIGHT) right++;
    if (judged.detections[row] === WRONG) wrong++;
    tp[length - 1] = right;
    fp[length - 1] = wrong;
  }
  let gt = 0;
  for (const outcome of judged.objects) if (outcome === FOUND || outcome === MISSED) gt++;
  return { confidence: confidence.slice(0, length), tp: tp.slice(0, length), fp: fp.slice(0, length), gt };
}

/**
 * The confidence with the highest F1; of equally good ones the highest. Null if no detection is right.
 * @param {Cuts} cuts
 * @returns {{confidence: number, f1: number} | null}
 */
export function bestF1({ confidence, tp, fp, gt }) {
  let best = null;
  for (let at = 0; at < confidence.length; at++) {
    const f1 = (2 * tp[at]) / Math.max(gt + tp[at] + fp[at], 1);
    if (tp[at] && (best === null || f1 > best.f1)) best = { confidence: confidence[at], f1 };
  }
  return best;
}

/** Between neighbouring points of a thinned curve neither recall nor confidence changes by more than one part of these. */
const PARTS = 490;

/**
 * Precision, recall and F1 against the confidence, to be drawn: at most 1,000 points, each of them exact.
 * @param {ObjectTable} table
 * @param {Choice} choice its confidence does not matter
 * @returns {Curve}
 */
export function curve(table, choice) {
  const { confidence, tp, fp, gt } = cuts(table, choice);
  const last = confidence.length - 1;
  const partOfScores = last > 0 ? (confidence[0] - confidence[last]) / PARTS : 0;
  const partOfRight = last > 0 ? (tp[last] - tp[0]) / PARTS : 0;
  const best = bestF1({ confidence, tp, fp, gt })?.confidence;
  /** @type {number[]} */
  const kept = [];
  for (let at = 0; at <= last; at++) {
    const before = kept[kept.length - 1];
    if (
      at === 0 ||
      at === last ||
      confidence[at] === best ||
      last < 1000 ||
      confidence[before] - confidence[at] >= partOfScores ||
      tp[at] - tp[before] >= Math.max(partOfRight, 1)
    ) {
      kept.push(at);
    }
  }
  const column = (/** @type {(at: number) => number} */ value) => Float64Array.from(kept, value);
  return {
    confidence: column((at) => confidence[at]),
    precision: column((at) => tp[at] / Math.max(tp[at] + fp[at], 1)),
    recall: column((at) => tp[at] / Math.max(gt, 1)),
    f1: column((at) => (2 * tp[at]) / Math.max(gt + tp[at] + fp[at], 1)),
  };
}

/**
 * Counts by category or by image.
 * @param {Judged} judged
 * @param {Uint16Array | Uint32Array} ofDetections the group of each detection
 * @param {Uint16Array | Uint32Array} ofObjects the same of objects
 * @param {number} groups how many there are
 */
function tally(judged, ofDetections, ofObjects, groups) {
  const [tp, fp, fn] = [new Float64Array(groups), new Float64Array(groups), new Float64Array(groups)];
  const { detections, objects } = judged;
  for (let row = 0; row < detections.length; row++) {
    if (detections[row] === RIGHT) tp[ofDetections[row]]++;
    else if (detections[row] === WRONG) fp[ofDetections[row]]++;
  }
  for (let row = 0; row < objects.length; row++) if (objects[row] === MISSED) fn[ofObjects[row]]++;
  return { tp, fp, fn };
}

/** @param {Float64Array} values */
const sum = (values) => values.reduce((total, value) => total + value, 0);

/**
 * @param {number} tp
 * @param {number} fp
 * @param {number} fn
 * @returns {Counts}
 */
function ratios(tp, fp, fn) {
  const [gt, dt] = [tp + fn, tp + fp];
  const ratio = (/** @type {number} */ part, /** @type {number} */ whole) => (whole ? part / whole : null);
  return { gt, dt, tp, fp, fn, precision: ratio(tp, dt), recall: ratio(tp, gt), f1: ratio(2 * tp, gt + dt) };
}

/**
 * Pairs of wrong detections and missed objects of different categories, one to one.
 * @param {ObjectTable} table
 * @param {Judged} judged
 * @param {number} iou
 * @returns {[number, number][]} rows of detections and objects
 */
function confusedPairs(table, judged, iou) {
  const { score } = table.detections;
  const candidates = table.iouType === "bbox" ? overlappingBoxes(table, judged, iou) : overlappingMasks(table, judged, iou);
  candidates.sort(
    (a, b) =>
      score[b.detection] - score[a.detection] || b.iou - a.iou || a.detection - b.detection || a.object - b.object,
  );
  const isTaken = { detection: new Uint8Array(table.detections.rows), object: new Uint8Array(table.objects.rows) };
  /** @type {[number, number][]} */
  const pairs = [];
  for (const { detection, object } of candidates) {
    if (isTaken.detection[detection] || isTaken.object[object]) continue;
    isTaken.detection[detection] = 1;
    isTaken.object[object] = 1;
    pairs.push([detection, object]);
  }
  return pairs;
}

/**
 * Wrong detections and missed objects of the same image and of different categories whose boxes overlap.
 * @param {ObjectTable} table
 * @param {Judged} judged
 * @param {number} iou
 */
function overlappingBoxes({ detections, objects, images }, judged, iou) {
  const threshold = IOU_THRESHOLDS[iou];
  // The missed objects, by image.
  const missed = [];
  const first = new Uint32Array(images.length + 1);
  for (let row = 0; row < objects.rows; row++) {
    if (judged.objects[row] !== MISSED) continue;
    missed.push(row);
    first[objects.image[row] + 1] = missed.length;
  }
  for (let image = 0; image < images.length; image++) first[image + 1] = Math.max(first[image + 1], first[image]);
  const pairs = [];
  for (let row = 0; row < detections.rows; row++) {
    if (judged.detections[row] !== WRONG) continue;
    for (let at = first[detections.image[row]]; at < first[detections.image[row] + 1]; at++) {
      const object = missed[at];
      if (objects.category[object] === detections.category[row]) continue;
      const overlap = boxIou(detections, row, objects, object);
      if (overlap >= threshold) pairs.push({ detection: row, object, iou: overlap });
    }
  }
  return pairs;
}

/**
 * The same of masks, as far as the table knows them.
 * @param {ObjectTable} table
 * @param {Judged} judged
 * @param {number} iou
 */
function overlappingMasks({ detections, objects }, judged, iou) {
  // IoUs are rounded to float32, so the threshold is, too.
  const threshold = Math.fround(IOU_THRESHOLDS[iou]);
  const pairs = [];
  for (let row = 0; row < detections.rows; row++) {
    const object = detections.iou_other_row[row];
    if (judged.detections[row] !== WRONG || object < 0 || judged.objects[object] !== MISSED) continue;
    if (detections.iou_other[row] >= threshold) pairs.push({ detection: row, object, iou: detections.iou_other[row] });
  }
  for (let row = 0; row < objects.rows; row++) {
    const detection = objects.iou_other_row[row];
    if (judged.objects[row] !== MISSED || detection < 0 || judged.detections[detection] !== WRONG) continue;
    if (objects.iou_other[row] >= threshold) pairs.push({ detection, object: row, iou: objects.iou_other[row] });
  }
  return pairs;
}

/**
 * The IoU of two boxes.
 * @param {Pick<Detections, "x" | "y" | "width" | "height">} detections
 * @param {number} row
 * @param {Pick<Detections, "x" | "y" | "width" | "height">} objects
 * @param {number} object
 */
export function boxIou(detections, row, objects, object) {
  const x = detections.x[row];
  const y = detections.y[row];
  const width = detections.width[row];
  const height = detections.height[row];
  const left = objects.x[object];
  const top = objects.y[object];
  const across = Math.min(x + width, left + objects.width[object]) - Math.max(x, left);
  const down = Math.min(y + height, top + objects.height[object]) - Math.max(y, top);
  if (!(across > 0 && down > 0)) return 0;
  const both = across * down;
  return both / (width * height + objects.width[object] * objects.height[object] - both);
}

/** @type {WeakMap<ObjectTable, Uint32Array>} */
const ordersByScore = new WeakMap();

/**
 * The rows of detections by descending score; of equal ones in the order of the table.
 * @param {ObjectTable} table
 * @returns {Uint32Array}
 */
function rowsByScore(table) {
  let order = ordersByScore.get(table);
  if (!order) {
    order = descending(table.detections.score);
    ordersByScore.set(table, order);
  }
  return order;
}

/**
 * The places of numbers by descending value; of equal ones the first comes first. A radix sort of their bits: sorting
 * half a million by comparing takes a second.
 * @param {Float64Array} values
 */
function descending(values) {
  const rows = values.length;
  const copy = values.slice();
  for (let row = 0; row < rows; row++) copy[row] += 0; // -0 becomes 0
  const bits = new Uint32Array(copy.buffer);
  // As unsigned numbers, bits of positive values rise with them: all are inverted to descend. Bits of negative values
  // fall: only the sign is left as it is.
  for (let row = 0; row < rows; row++) {
    if (bits[2 * row + 1] >>> 31) continue;
    bits[2 * row] = ~bits[2 * row];
    bits[2 * row + 1] = ~bits[2 * row + 1] & 0x7fffffff;
  }
  const digits = new Uint16Array(bits.buffer);
  let order = new Uint32Array(rows);
  for (let row = 0; row < rows; row++) order[row] = row;
  let sorted = new Uint32Array(rows);
  for (let digit = 0; digit < 4; digit++) {
    const next = new Uint32Array(65537);
    for (let row = 0; row < rows; row++) next[digits[4 * row + digit] + 1]++;
    // Scores of 32 bits have the same last digit, 0.
    if (rows && next[digits[digit] + 1] === rows) continue;
    for (let value = 1; value < next.length; value++) next[value] += next[value - 1];
    for (let at = 0; at < rows; at++) {
      const row = order[at];
      sorted[next[digits[4 * row + digit]]++] = row;
    }
    [order, sorted] = [sorted, order];
  }
  return order;
}
