/**
 * What is different between two evaluations of the same images, A and B, object by object. Pure functions, no document.
 *
 *     const same = sameObjects(a, b);
 *     changes(a, b, same, judge(a, choiceOfA), judge(b, choiceOfB)).fixed
 *
 * The same numbers as those of `od_eval/evaluation/analyses/comparison.py`, which a test compares
 * (tests/plugin/test_change_numbers.py).
 */

import { FOUND, IOU_THRESHOLDS, MISSED, RIGHT, WRONG, boxIou } from "./table.js";

/** Boxes whose four numbers differ by no more are of the same object, in pixels. */
const SAME_BOX = 0.1;

/** The kinds of changes, and what has not changed. */
export const CHANGES = /** @type {const} */ (["fixed", "broke", "fp_came", "fp_went", "both", "neither"]);
/** What becomes of objects through training: see `page_data.history`. */
export const STATUSES = /** @type {const} */ (["learnt", "lost", "flickering", "never", "always"]);

/**
 * @typedef {import("./table.js").ObjectTable} ObjectTable
 * @typedef {import("./table.js").Judged} Judged
 * @typedef {import("./picture.js").Focus} Focus
 * @typedef {typeof CHANGES[number]} Change
 * @typedef {typeof STATUSES[number]} Status
 *
 * @typedef {object} Columns Objects by image: columns with a value for each.
 * @property {ArrayLike<number>} image index in the images
 * @property {ArrayLike<number>} category index in the categories
 * @property {ArrayLike<number>} x of the box, in pixels of the original image, as the three that follow
 * @property {ArrayLike<number>} y
 * @property {ArrayLike<number>} width
 * @property {ArrayLike<number>} height
 *
 * @typedef {object} Annotated Objects, and what they refer to.
 * @property {{name: string}[]} categories
 * @property {{id: number | string}[]} images
 * @property {Columns & {ignored: ArrayLike<number>}} objects
 *
 * @typedef {object} Same What two evaluations have in common. Categories are the same by name, images by id.
 * @property {Int32Array} categoryOf of each category of B that of A; -1 for none
 * @property {Int32Array} imageOf of each image of B that of A; -1 for none
 * @property {Int32Array} objectOf of each object of B that of A; -1 for none
 * @property {Uint8Array} isCompared whether an image of B is in A, too, with the same objects
 * @property {number} imagesOnlyA how many images only A has
 * @property {number} imagesOnlyB
 * @property {number} imagesChanged how many images both have, with different objects
 * @property {number} firstChanged the first of these, of B; -1 for none
 * @property {number} objectsOnlyA how many objects in these only A has
 * @property {number} objectsOnlyB
 * @property {string[]} categoriesOnlyA the names of the categories that only A has
 * @property {string[]} categoriesOnlyB
 *
 * @typedef {Record<Change, number[]>} Changes Rows: of B's objects; `fp_came` of B's, `fp_went` of A's detections.
 *   `fixed`: only B finds them. `broke`: only A does. `fp_came`: false positives of B that overlap no false positive of
 *   A of the same category by an IoU of 0.50; of boxes, also where masks are matched. `fp_went`: the other way.
 *
 * @typedef {object} Picked Rows to look at.
 * @property {number[]} objects of B
 * @property {number[]} detectionsOfA
 * @property {number[]} detectionsOfB
 *
 * @typedef {object} Score A metric of both, as in `comparison.py`.
 * @property {number | null} a
 * @property {number | null} b
 * @property {number | null} difference B - A
 * @property {[number, number] | null} interval of 95%, of the difference
 * @property {boolean | null} is_distinguishable whether it is more than chance explains; null if that is not known
 *
 * @typedef {{num_groundtruth: number, AP: Score, AP50: Score, F1: Score, fixed: number, broke: number,
 *   fp_came: number, fp_went: number}} Compared
 * @typedef {Compared & {confidence_a: number, confidence_b: number, num_images: number, num_both: number,
 *   num_neither: number, per_category: Record<string, Compared>}} Comparison As `page_data.comparison` gives it.
 *
 * @typedef {{steps: number[], num_evaluation_sets: number, num_not_in_all: number, images: {id: string}[],
 *   categories: {name: string}[], objects: Columns & {status: Status[]}}} History As `page_data.history` gives it.
 */

/**
 * Which categories, images and objects two evaluations have in common.
 *
 * Objects are the same if image and category are, if both or none are ignored, and if their boxes are to a tenth of a
 * pixel; of several that are, the first is the same as the first.
 * @param {Annotated} a
 * @param {Annotated} b
 * @returns {Same}
 */
export function sameObjects(a, b) {
  const categoryOf = placesOf(b.categories.map(({ name }) => name), a.categories.map(({ name }) => name));
  const imageOf = placesOf(b.images.map(({ id }) => String(id)), a.images.map(({ id }) => String(id)));
  const isShared = new Uint8Array(a.categories.length);
  for (const category of categoryOf) if (category >= 0) isShared[category] = 1;
  const firstOfA = firstRows(a.objects.image, a.images.length);
  const firstOfB = firstRows(b.objects.image, b.images.length);
  const objectOf = new Int32Array(b.objects.image.length).fill(-1);
  const isCompared = new Uint8Array(b.images.length);
  let [imagesShared, imagesChanged, objectsOnlyA, objectsOnlyB] = [0, 0, 0, 0];
  let firstChanged = -1;
  for (let image = 0; image < b.images.length; image++) {
    const imageOfA = imageOf[image];
    if (imageOfA < 0) continue;
    imagesShared++;
    const rowsOfA = rowsWhere(firstOfA, imageOfA, (row) => isShared[a.objects.category[row]] === 1);
    const rowsOfB = rowsWhere(firstOfB, image, (row) => categoryOf[b.objects.category[row]] >= 0);
    const num = pairUp(a.objects, b.objects, categoryOf, rowsOfA, rowsOfB, objectOf);
    objectsOnlyA += rowsOfA.length - num;
    objectsOnlyB += rowsOfB.length - num;
    if (num === rowsOfA.length && num === rowsOfB.length) isCompared[image] = 1;
    else {
      imagesChanged++;
      if (firstChanged < 0) firstChanged = image;
    }
  }
  return {
    categoryOf,
    imageOf,
    objectOf,
    isCompared,
    imagesOnlyA: a.images.length - imagesShared,
    imagesOnlyB: b.images.length - imagesShared,
    imagesChanged,
    firstChanged,
    objectsOnlyA,
    objectsOnlyB,
    categoriesOnlyA: a.categories.filter((_, at) => !isShared[at]).map(({ name }) => name),
    categoriesOnlyB: b.categories.filter((_, at) => categoryOf[at] < 0).map(({ name }) => name),
  };
}

/**
 * What B finds that A does not, and the other way, in the images that both have with the same objects. What one of them
 * ignores is compared in neither.
 * @param {ObjectTable} a
 * @param {ObjectTable} b
 * @param {Same} same of the two
 * @param {Judged} judgedA
 * @param {Judged} judgedB
 * @returns {Changes}
 */
export function changes(a, b, same, judgedA, judgedB) {
  /** @type {Changes} */
  const found = { fixed: [], broke: [], ...falsePositives(a, b, same, judgedA, judgedB), both: [], neither: [] };
  const counts = (/** @type {number} */ outcome) => outcome === FOUND || outcome === MISSED;
  for (let row = 0; row < b.objects.rows; row++) {
    const rowOfA = same.objectOf[row];
    if (rowOfA < 0 || !same.isCompared[b.objects.image[row]]) continue;
    const [outcomeA, outcomeB] = [judgedA.objects[rowOfA], judgedB.objects[row]];
    if (!counts(outcomeA) || !counts(outcomeB)) continue;
    if (outcomeA === outcomeB) found[outcomeB === FOUND ? "both" : "neither"].push(row);
    else found[outcomeB === FOUND ? "fixed" : "broke"].push(row);
  }
  return found;
}

/**
 * The false positives that only one of the two has.
 * @param {ObjectTable} a
 * @param {ObjectTable} b
 * @param {Same} same
 * @param {Judged} judgedA
 * @param {Judged} judgedB
 */
function falsePositives(a, b, same, judgedA, judgedB) {
  const [rowsOfA, rowsOfB] = [a.detections, b.detections];
  const firstOfA = firstRows(rowsOfA.image, a.images.length);
  const firstOfB = firstRows(rowsOfB.image, b.images.length);
  const isShared = new Uint8Array(a.categories.length);
  for (const category of same.categoryOf) if (category >= 0) isShared[category] = 1;
  // Of an image, B's false positives of each category (of A) as a list: the last one, and the one before each.
  const last = new Int32Array(a.categories.length).fill(-1);
  const before = new Int32Array(b.detections.rows);
  const hasPartner = new Uint8Array(b.detections.rows);
  /** @type {{fp_came: number[], fp_went: number[]}} */
  const found = { fp_came: [], fp_went: [] };
  for (let image = 0; image < b.images.length; image++) {
    if (!same.isCompared[image]) continue;
    const begin = firstOfB[image];
    const end = firstOfB[image + 1];
    for (let row = begin; row < end; row++) {
      const category = same.categoryOf[rowsOfB.category[row]];
      if (judgedB.detections[row] !== WRONG || category < 0) continue;
      before[row] = last[category];
      last[category] = row;
    }
    const endOfA = firstOfA[same.imageOf[image] + 1];
    for (let row = firstOfA[same.imageOf[image]]; row < endOfA; row++) {
      const category = rowsOfA.category[row];
      if (judgedA.detections[row] !== WRONG || !isShared[category]) continue;
      const left = rowsOfA.x[row];
      const top = rowsOfA.y[row];
      const right = left + rowsOfA.width[row];
      const bottom = top + rowsOfA.height[row];
      let isPartner = false;
      for (let other = last[category]; other >= 0; other = before[other]) {
        // Most are apart, which is seen at once.
        if (rowsOfB.x[other] > right || rowsOfB.x[other] + rowsOfB.width[other] < left) continue;
        if (rowsOfB.y[other] > bottom || rowsOfB.y[other] + rowsOfB.height[other] < top) continue;
        if ((isPartner && hasPartner[other]) || !isSamePlace(rowsOfA, row, rowsOfB, other)) continue;
        isPartner = true;
        hasPartner[other] = 1;
      }
      if (!isPartner) found.fp_went.push(row);
    }
    for (let row = begin; row < end; row++) {
      const category = same.categoryOf[rowsOfB.category[row]];
      if (judgedB.detections[row] !== WRONG || category < 0) continue;
      last[category] = -1;
      if (!hasPartner[row]) found.fp_came.push(row);
    }
  }
  return found;
}

/**
 * Whether two detections are at the same place.
 * @param {import("./table.js").Detections} a
 * @param {number} row
 * @param {import("./table.js").Detections} b
 * @param {number} other
 */
function isSamePlace(a, row, b, other) {
  // A box without area overlaps nothing, not even the same one.
  if (!(a.width[row] > 0 && a.height[row] > 0)) return furthest(a, row, b, other) === 0;
  return boxIou(a, row, b, other) >= IOU_THRESHOLDS[0];
}

/**
 * What became of the objects of an evaluation through training.
 * @param {ObjectTable} table
 * @param {History} history of its run
 * @returns {{rows: Record<Status, number[]>, numElsewhere: number}} rows of objects, and how many objects of the history
 *   are not in this evaluation
 */
export function objectsByStatus(table, history) {
  // The history has no objects that nobody has to find.
  const followed = { ...history, objects: { ...history.objects, ignored: new Uint8Array(history.objects.image.length) } };
  const { objectOf } = sameObjects(followed, table);
  /** @type {Record<Status, number[]>} */
  const rows = { learnt: [], lost: [], flickering: [], never: [], always: [] };
  let num = 0;
  for (let row = 0; row < objectOf.length; row++) {
    if (objectOf[row] < 0) continue;
    rows[history.objects.status[objectOf[row]]].push(row);
    num++;
  }
  return { rows, numElsewhere: history.objects.image.length - num };
}

/**
 * The rows of one kind of change, or all changes.
 * @param {Changes} found
 * @param {Change | null} change
 * @returns {Picked}
 */
export function picked(found, change) {
  const isChosen = (/** @type {Change} */ of) => change === of || (change === null && of !== "both" && of !== "neither");
  const rows = (/** @type {Change[]} */ ...of) => of.filter(isChosen).flatMap((one) => found[one]);
  return {
    objects: rows("fixed", "broke", "both", "neither"),
    detectionsOfA: rows("fp_went"),
    detectionsOfB: rows("fp_came"),
  };
}

/**
 * How many of the rows are in each image of B.
 * @param {ObjectTable | null} a null if nothing is picked in it
 * @param {ObjectTable} b
 * @param {Same | null} same null if nothing is picked in A
 * @param {Picked} rows
 * @returns {Uint32Array}
 */
export function numPerImage(a, b, same, rows) {
  const nums = new Uint32Array(b.images.length);
  for (const row of rows.objects) nums[b.objects.image[row]]++;
  for (const row of rows.detectionsOfB) nums[b.detections.image[row]]++;
  if (a && same) {
    const imageOfB = new Int32Array(a.images.length);
    same.imageOf.forEach((image, at) => image >= 0 && (imageOfB[image] = at));
    for (const row of rows.detectionsOfA) nums[imageOfB[a.detections.image[row]]]++;
  }
  return nums;
}

/**
 * The same rows as what stays vivid in a picture: objects with the detections that find them.
 * @param {ObjectTable} table
 * @param {Judged} judged
 * @param {number} iou index of the threshold
 * @param {number[]} objects rows
 * @param {number[]} detections rows
 * @returns {Focus}
 */
export function focusOf(table, judged, iou, objects, detections) {
  const isVivid = { objects: new Uint8Array(table.objects.rows), detections: new Uint8Array(table.detections.rows) };
  for (const row of detections) isVivid.detections[row] = 1;
  for (const row of objects) {
    isVivid.objects[row] = 1;
    const finding = table.objects.match[10 * row + iou];
    if (finding >= 0 && judged.detections[finding] === RIGHT) isVivid.detections[finding] = 1;
  }
  // Sets of half a million rows would take a quarter of a second.
  return {
    objects: { has: (row) => isVivid.objects[row] === 1 },
    detections: { has: (row) => isVivid.detections[row] === 1 },
  };
}

/**
 * The comparison of B with A, from that of A with B.
 * @param {Comparison} comparison
 * @returns {Comparison}
 */
export function mirrored(comparison) {
  const negative = (/** @type {number | null} */ value) => (value === null ? null : 0 - value);
  const score = (/** @type {Score} */ { a, b, difference, interval, is_distinguishable }) => ({
    a: b,
    b: a,
    difference: negative(difference),
    interval: interval && /** @type {[number, number]} */ ([0 - interval[1], 0 - interval[0]]),
    is_distinguishable,
  });
  /** @type {<T extends Compared>(compared: T) => T} */
  const of = (compared) => ({
    ...compared,
    AP: score(compared.AP),
    AP50: score(compared.AP50),
    F1: score(compared.F1),
    fixed: compared.broke,
    broke: compared.fixed,
    fp_came: compared.fp_went,
    fp_went: compared.fp_came,
  });
  return {
    ...of(comparison),
    confidence_a: comparison.confidence_b,
    confidence_b: comparison.confidence_a,
    per_category: Object.fromEntries(
      Object.entries(comparison.per_category).map(([name, category]) => [name, of(category)]),
    ),
  };
}

// ---- The same objects -----------------------------------------------------------------------------------------------

/**
 * The place of each text among others; -1 for none.
 * @param {string[]} texts
 * @param {string[]} others
 */
function placesOf(texts, others) {
  const places = new Map(others.map((text, at) => [text, at]));
  return Int32Array.from(texts, (text) => places.get(text) ?? -1);
}

/**
 * Where the rows of each image begin, and after the last one how many rows there are; a column of images ascends.
 * @param {ArrayLike<number>} image
 * @param {number} num of images
 */
function firstRows(image, num) {
  const first = new Uint32Array(num + 1);
  for (let row = 0; row < image.length; row++) first[image[row] + 1]++;
  for (let at = 0; at < num; at++) first[at + 1] += first[at];
  return first;
}

/**
 * @param {Uint32Array} first of `firstRows`
 * @param {number} image
 * @param {(row: number) => boolean} condition
 */
function rowsWhere(first, image, condition) {
  const rows = [];
  for (let row = first[image]; row < first[image + 1]; row++) if (condition(row)) rows.push(row);
  return rows;
}

/**
 * Finds the same objects in an image: first those whose boxes are equal, rounded to a tenth of a pixel; of the rest,
 * which may be rounded to another tenth, the nearest first.
 * @param {Annotated["objects"]} a
 * @param {Annotated["objects"]} b
 * @param {Int32Array} categoryOf
 * @param {number[]} rowsOfA
 * @param {number[]} rowsOfB
 * @param {Int32Array} objectOf is filled: of each row of B that of A
 * @returns {number} how many there are
 */
function pairUp(a, b, categoryOf, rowsOfA, rowsOfB, objectOf) {
  const isSameKind = (/** @type {number} */ rowOfA, /** @type {number} */ rowOfB) =>
    a.category[rowOfA] === categoryOf[b.category[rowOfB]] && a.ignored[rowOfA] === b.ignored[rowOfB];
  const isInOrder =
    rowsOfA.length === rowsOfB.length &&
    rowsOfA.every((row, at) => isSameKind(row, rowsOfB[at]) && isSameRounded(a, row, b, rowsOfB[at]));
  if (isInOrder) {
    rowsOfB.forEach((row, at) => (objectOf[row] = rowsOfA[at]));
    return rowsOfB.length;
  }

  const restOfA = new Set(rowsOfA);
  for (const row of rowsOfB) {
    for (const other of restOfA) {
      if (!isSameKind(other, row) || !isSameRounded(a, other, b, row)) continue;
      objectOf[row] = other;
      restOfA.delete(other);
      break;
    }
  }
  const pairs = [];
  for (const row of rowsOfB) {
    if (objectOf[row] >= 0) continue;
    for (const other of restOfA) {
      const distance = furthest(a, other, b, row);
      if (isSameKind(other, row) && distance <= SAME_BOX) pairs.push({ other, row, distance });
    }
  }
  pairs.sort((one, two) => one.distance - two.distance || one.other - two.other || one.row - two.row);
  for (const { other, row } of pairs) {
    if (objectOf[row] >= 0 || !restOfA.has(other)) continue;
    objectOf[row] = other;
    restOfA.delete(other);
  }
  return rowsOfA.length - restOfA.size;
}

/**
 * Whether two boxes are equal, rounded to a tenth of a pixel.
 * @param {Columns} a
 * @param {number} row
 * @param {Columns} b
 * @param {number} other
 */
function isSameRounded(a, row, b, other) {
  const isSame = (/** @type {number} */ one, /** @type {number} */ two) => Math.round(10 * one) === Math.round(10 * two);
  return (
    isSame(a.x[row], b.x[other]) &&
    isSame(a.y[row], b.y[other]) &&
    isSame(a.width[row], b.width[other]) &&
    isSame(a.height[row], b.height[other])
  );
}

/**
 * By how much the numbers of two boxes differ at most.
 * @param {Columns} a
 * @param {number} row
 * @param {Columns} b
 * @param {number} other
 */
function furthest(a, row, b, other) {
  return Math.max(
    Math.abs(a.x[row] - b.x[other]),
    Math.abs(a.y[row] - b.y[other]),
    Math.abs(a.width[row] - b.width[other]),
    Math.abs(a.height[row] - b.height[other]),
  );
}
