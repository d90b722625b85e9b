/**
 * What the user looks at, and how it stands in the address, so that a link shows the same to others.
 *
 * In TensorBoard it is the address of the whole window, after the name of the tab: `#od_eval&p.od_eval.view=matrix`.
 * In a report it is the report's own: `#view=matrix`.
 */

import { LAYERS } from "./segmentation.js";
import { useCallback, useEffect, useRef, useState } from "./vendor/preact.js";

export const VIEWS = ["overview", "matrix", "curves", "images", "compare", "labels"];

/** Areas in square pixels, as COCO bounds them: a bound belongs to both sides. */
export const SIZES = {
  all: [0, Infinity],
  small: [0, 32 ** 2],
  medium: [32 ** 2, 96 ** 2],
  large: [96 ** 2, Infinity],
};

/**
 * @typedef {object} State
 * @property {string | null} run null: the first that has an object table
 * @property {number | null} step null: the newest that has an object table
 * @property {"bbox" | "segm"} type whether boxes or masks are matched
 * @property {import("./segmentation.js").Layer} layer what is drawn on pictures of classes of pixels
 * @property {number | null} confidence null: that of the operating point
 * @property {number} iou index in `IOU_THRESHOLDS`
 * @property {number | null} category index of the only category that counts; null for all
 * @property {keyof SIZES} size
 * @property {string} view one of `VIEWS`
 * @property {number | null} image the index of the image that is shown large
 * @property {string | null} cell name of what was clicked, as selection.js reads it: `confusion/0/2`
 * @property {string | null} order of the table of images: `f1/ascending`; null for that of its first column
 * @property {"numbers" | "rows" | "columns" | null} rates what the cells of the confusion matrix show; null: numbers of
 *   objects, parts of the pixels of rows
 * @property {boolean} errors_only whether the matrix leaves out what is right
 * @property {string | null} categories indices of those that a large matrix has: `0,3,17`; null for the most confused
 * @property {string | null} kind of suspected label errors; null for all
 * @property {number | null} suspect the index of the one that is shown; null for the first that is not decided
 * @property {string | null} other_run what the view "Compare" compares with; null: see `otherEvaluation` in compare.js
 * @property {number | null} other_step
 */

/** @type {State} */
const INITIAL = {
  run: null,
  step: null,
  type: "bbox",
  layer: "wrong",
  confidence: null,
  iou: 0,
  category: null,
  size: "all",
  view: "overview",
  image: null,
  cell: null,
  order: null,
  rates: null,
  errors_only: false,
  categories: null,
  kind: null,
  suspect: null,
  other_run: null,
  other_step: null,
};

/**
 * Whether a change leads to a place to come back to. Sliders and selects would leave hundreds of them.
 * @param {State} before
 * @param {State} after
 */
const isOtherPlace = (before, after) =>
  before.run !== after.run ||
  before.view !== after.view ||
  before.cell !== after.cell ||
  before.image !== after.image;

/** @param {string} text */
const integer = (text) => (/^\d{1,15}$/.test(text) ? Number(text) : undefined);

/**
 * How each value is read from an address; undefined if it cannot be, as anybody can write a link.
 * @type {Record<string, (text: string) => any>}
 */
const READ = {
  run: (text) => text,
  step: integer,
  type: (text) => (text === "bbox" || text === "segm" ? text : undefined),
  layer: (text) => (Object.hasOwn(LAYERS, text) ? text : undefined),
  confidence: (text) => (text !== "" && Number.isFinite(Number(text)) ? Number(text) : undefined),
  iou: (text) => (/^\d$/.test(text) ? Number(text) : undefined),
  category: integer,
  size: (text) => (Object.hasOwn(SIZES, text) ? text : undefined),
  view: (text) => (VIEWS.includes(text) ? text : undefined),
  image: integer,
  cell: (text) => text,
  order: (text) => (/^\w+\/(ascending|descending)$/.test(text) ? text : undefined),
  rates: (text) => (["numbers", "rows", "columns"].includes(text) ? text : undefined),
  errors_only: (text) => (text === "true" ? true : undefined),
  categories: (text) => (/^(\d{1,9}(,\d{1,9})*)?$/.test(text) ? text : undefined),
  kind: (text) => text,
  suspect: integer,
  other_run: (text) => text,
  other_step: integer,
};

/**
 * The state in the part of an address after `#`.
 * @param {string} text
 * @param {string} prefix of the names that are ours
 * @returns {State}
 */
export function readState(text, prefix) {
  const state = { ...INITIAL };
  for (const part of text.split("&")) {
    const at = part.indexOf("=");
    if (at < 0 || !part.startsWith(prefix)) continue;
    const name = part.slice(prefix.length, at);
    if (!Object.hasOwn(READ, name)) continue;
    const value = READ[name](decoded(part.slice(at + 1)));
    if (value !== undefined) Object.assign(state, { [name]: value });
  }
  return state;
}

/**
 * The other way: what differs from the beginning.
 * @param {State} state
 * @param {string} prefix
 */
export const writeState = (state, prefix) =>
  Object.entries(state)
    .filter(([name, value]) => value !== INITIAL[/** @type {keyof State} */ (name)])
    .map(([name, value]) => `${prefix}${name}=${encodeURIComponent(/** @type {string | number | boolean} */ (value))}`)
    .join("&");

/** @param {string} text */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Whether the page is the tab of TensorBoard, and not a report. */
export const inTensorBoard = () => document.documentElement.dataset.host === "tensorboard" && window.parent !== window;

/** The window whose address has the state, what precedes the state in it, and how our names begin. */
function host() {
  return inTensorBoard()
    ? { page: window.parent, tab: "od_eval", prefix: "p.od_eval." }
    : { page: window, tab: "", prefix: "" };
}

/**
 * Whether the address is that of our tab, and not of another tab of TensorBoard.
 * @param {string} hash
 * @param {string} tab
 */
const isOurs = (hash, tab) => tab === "" || hash.replace(/^#/, "").split("&")[0] === tab;

/**
 * The state; a function that changes a part of it; and one that is told after each rendering which state stands in the
 * address: with the run and step that are shown, so that a link shows them even if a newer evaluation is there.
 * @returns {[State, (change: Partial<State>) => void, (shown: State) => void]}
 */
export function useAppState() {
  const { page, tab, prefix } = host();
  const [state, change] = useState(() => readState(page.location.hash.replace(/^#/, ""), prefix));
  const isNewPlace = useRef(false);

  const setState = useCallback((/** @type {Partial<State>} */ changes) => {
    change((/** @type {State} */ before) => {
      const after = { ...before, ...changes };
      if (isOtherPlace(before, after)) isNewPlace.current = true;
      return after;
    });
  }, []);

  const lastShown = useRef(/** @type {State | null} */ (null));
  const writeAddress = useCallback((/** @type {State} */ shown) => {
    lastShown.current = shown;
    if (!isOurs(page.location.hash, tab)) return;
    const hash = `#${[tab, writeState(shown, prefix)].filter(Boolean).join("&")}`;
    const isPlace = isNewPlace.current;
    isNewPlace.current = false;
    if (hash === page.location.hash) return;
    if (isPlace) page.history.pushState(page.history.state, "", hash);
    else page.history.replaceState(page.history.state, "", hash);
  }, []);

  useEffect(() => {
    const read = () => {
      const { hash } = page.location;
      if (!isOurs(hash, tab)) return;
      // A click on our tab in TensorBoard leaves nothing of ours in the address: the page is still as it was.
      if (tab !== "" && !hash.includes(`&${prefix}`) && lastShown.current) writeAddress(lastShown.current);
      else change(readState(hash.replace(/^#/, ""), prefix));
    };
    page.addEventListener("popstate", read);
    return () => page.removeEventListener("popstate", read);
  }, []);
  return [state, setState, writeAddress];
}
