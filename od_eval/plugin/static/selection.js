/**
 * What a click selects: a cell of the confusion matrix, a bar, a kind of error or a category by its name, as it stands
 * in the address. No DOM.
 */

import { rowsBetween } from "./distributions.js";
import { isolated } from "./format.js";
import { ERROR_KINDS, MISSED, WRONG, confusion, judge } from "./table.js";

/**
 * @typedef {import("./table.js").ObjectTable} ObjectTable
 * @typedef {import("./table.js").Choice} Choice
 * @typedef {{title: string, detections: number[], objects: number[]}} Selection Rows of the object table, and what they
 *   have in common.
 */

/** What a detection is, or an object that nothing matches, by the kind of its error: TIDE's kinds. */
export const TITLES_OF_ERRORS = {
  class: "Wrong class",
  location: "Badly located",
  both: "Wrong class and badly located",
  duplicate: "Found twice",
  background: "Nothing is there",
  missed: "Missed, and not meant by any wrong detection",
};

/**
 * The name of a cell of the confusion matrix.
 * @param {number} actual index of a category, or of background, which is the number of categories
 * @param {number} predicted the same
 */
export const nameOfCell = (actual, predicted) => `confusion/${actual}/${predicted}`;

/**
 * The name of a bar of a distribution.
 * @param {string} distribution name of one of `distributions.js`
 * @param {number} low
 * @param {number} high
 */
export const nameOfBar = (distribution, low, high) => `bar/${distribution}/${low}/${high}`;

/**
 * The rows that a name means; null if it means nothing, as a name from an address may.
 * @param {ObjectTable} table
 * @param {Choice} choice
 * @param {string | null} name of `nameOfCell` or `nameOfBar`, `errors/<kind>` or `category/<index>`
 * @returns {Selection | null}
 */
export function selected(table, choice, name) {
  const [kind, ...rest] = (name ?? "").split("/");
  if (kind === "confusion") return ofCell(table, choice, index(rest[0]), index(rest[1]));
  if (kind === "errors") return ofError(table, choice, rest[0]);
  if (kind === "category") return ofCategory(table, choice, index(rest[0]));
  if (kind === "bar") return rowsBetween(table, choice, rest[0], Number(rest[1]), Number(rest[2]));
  return null;
}

/** @param {string | undefined} text */
const index = (text) => (text !== undefined && /^\d+$/.test(text) ? Number(text) : -1);

/**
 * A name that others gave, in a sentence.
 * @param {string} name
 */
export const quoted = (name) => `“${isolated(name)}”`;

/**
 * What a cell of the confusion matrix counts, in words.
 * @param {string[]} labels names of the categories, and of background
 * @param {number} actual
 * @param {number} predicted
 */
export function titleOfCell(labels, actual, predicted) {
  const background = labels.length - 1;
  if (predicted === background) return `${quoted(labels[actual])}, missed`;
  if (actual === background) return `${quoted(labels[predicted])} where nothing is`;
  if (actual === predicted) return `${quoted(labels[actual])}, right`;
  return `${quoted(labels[actual])} taken for ${quoted(labels[predicted])}`;
}

/**
 * @param {ObjectTable} table
 * @param {Choice} choice
 * @param {number} actual
 * @param {number} predicted
 */
function ofCell(table, choice, actual, predicted) {
  const background = table.categories.length;
  const isCell = (/** @type {number} */ at) => at >= 0 && at <= background;
  if (!isCell(actual) || !isCell(predicted) || (actual === background && predicted === background)) return null;
  const matrix = confusion(table, { ...choice, category: null });
  return { title: titleOfCell(matrix.labels, actual, predicted), ...matrix.rowsOf(actual, predicted) };
}

/**
 * @param {ObjectTable} table
 * @param {Choice} choice
 * @param {string | undefined} kind
 */
function ofError(table, choice, kind) {
  const code = ERROR_KINDS.indexOf(kind ?? "");
  if (code < 1) return null;
  const title = TITLES_OF_ERRORS[/** @type {keyof typeof TITLES_OF_ERRORS} */ (kind)];
  // Kinds of errors are those at an IoU of 0.50.
  const judged = judge(table, { ...choice, iou: 0 });
  const { error, iou_row, iou_other_row } = table.detections;
  if (kind !== "missed") {
    return {
      title,
      detections: rowsWhere(judged.detections, (outcome, row) => outcome === WRONG && error[row] === code),
      objects: [],
    };
  }
  // An object that a detection of one of these two kinds means is not missed. Which detections there are depends on
  // the confidence, so the column `error` of objects, which is for all detections, does not say it.
  const meant = new Set();
  judged.detections.forEach((outcome, row) => {
    if (outcome !== WRONG) return;
    if (ERROR_KINDS[error[row]] === "location") meant.add(iou_row[row]);
    if (ERROR_KINDS[error[row]] === "class") meant.add(iou_other_row[row]);
  });
  return {
    title,
    detections: [],
    objects: rowsWhere(judged.objects, (outcome, row) => outcome === MISSED && !meant.has(row)),
  };
}

/**
 * @param {ObjectTable} table
 * @param {Choice} choice
 * @param {number} category
 */
function ofCategory(table, choice, category) {
  if (category < 0 || category >= table.categories.length) return null;
  const judged = judge(table, { ...choice, category });
  return {
    title: `Errors of ${quoted(table.categories[category].name)}`,
    detections: rowsWhere(judged.detections, (outcome) => outcome === WRONG),
    objects: rowsWhere(judged.objects, (outcome) => outcome === MISSED),
  };
}

/**
 * The rows whose outcome fulfils a condition.
 * @param {Uint8Array} outcomes
 * @param {(outcome: number, row: number) => boolean} condition
 */
function rowsWhere(outcomes, condition) {
  const rows = [];
  for (let row = 0; row < outcomes.length; row++) if (condition(outcomes[row], row)) rows.push(row);
  return rows;
}
