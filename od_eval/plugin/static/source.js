/**
 * Where the page gets its data from: the server in TensorBoard, or its own file, as a report.
 */

import { parseTable } from "./table.js";

/**
 * @typedef {import("./table.js").ObjectTable} ObjectTable
 * @typedef {{step: number, iou_types: ("bbox" | "segm")[], has_objects: boolean, metrics: Record<string, number | null>}}
 *   IndexedEvaluation
 * @typedef {{runs: {name: string, evaluations: IndexedEvaluation[]}[]}} Index Runs by name, evaluations by step.
 * @typedef {Record<string, any>} Evaluation The metrics file of an evaluation; docs/metrics.md describes it.
 *
 * @typedef {object} Source
 * @property {() => Promise<Index>} index what there is; asked anew each time
 * @property {(run: string, step: number) => Promise<Evaluation>} evaluation
 * @property {(run: string, step: number, type: "bbox" | "segm") => Promise<ObjectTable>} objects
 * @property {(run: string, step: number, image: number) => Promise<string>} imageUrl what an `img` has as its `src`
 *   @param image: the index in the images of the table
 */

/** So many tables and evaluations are kept: a table of 500,000 detections has 60 MB. */
const KEPT = 4;

/**
 * The server of the plugin. Addresses are relative to that of the page.
 * @implements {Source}
 */
export class ServerSource {
  constructor() {
    this._evaluations = new Kept((address) => fetched(address).then((response) => response.json()));
    this._objects = new Kept((address) => fetched(address).then((response) => response.arrayBuffer()).then(parseTable));
  }

  /** @returns {Promise<Index>} */
  async index() {
    return (await fetched("index")).json();
  }

  /**
   * @param {string} run
   * @param {number} step
   */
  evaluation(run, step) {
    return this._evaluations.get(`evaluation?${query({ run, step })}`);
  }

  /**
   * @param {string} run
   * @param {number} step
   * @param {"bbox" | "segm"} type
   */
  objects(run, step, type) {
    return this._objects.get(`objects?${query({ run, step, type })}`);
  }

  /**
   * @param {string} run
   * @param {number} step
   * @param {number} image
   */
  async imageUrl(run, step, image) {
    return `image?${query({ run, step, index: image })}`;
  }
}

/**
 * The data in a report. Elements have the JSON, or what is binary in base64; their ids have the position of the run in
 * the index instead of its name.
 * @implements {Source}
 */
export class EmbeddedSource {
  /** @param {Document} document */
  constructor(document) {
    this._document = document;
    /** @type {Index} */
    this._index = JSON.parse(this._text("index"));
    this._evaluations = new Kept(async (id) => JSON.parse(this._text(id)));
    this._objects = new Kept(async (id) => parseTable(await gunzip(this._text(id))));
  }

  async index() {
    return this._index;
  }

  /**
   * @param {string} run
   * @param {number} step
   */
  evaluation(run, step) {
    return this._evaluations.get(`evaluation-${this._position(run)}-${step}`);
  }

  /**
   * @param {string} run
   * @param {number} step
   * @param {"bbox" | "segm"} type
   */
  objects(run, step, type) {
    return this._objects.get(`objects-${this._position(run)}-${step}-${type}`);
  }

  /**
   * @param {string} run
   * @param {number} step
   * @param {number} image
   */
  async imageUrl(run, step, image) {
    let text = this._text(`image-${this._position(run)}-${step}-${image}`);
    // The picture of another step.
    if (text.startsWith("=")) text = this._text(text.slice(1));
    return `data:image/jpeg;base64,${text}`;
  }

  /** @param {string} run */
  _position(run) {
    return this._index.runs.findIndex(({ name }) => name === run);
  }

  /** @param {string} id */
  _text(id) {
    const element = this._document.getElementById(id);
    if (!element) throw new Error("This is not in the report.");
    return (element.textContent ?? "").trim();
  }
}

/**
 * The last few results of a function of a text.
 * @template T
 */
class Kept {
  /** @param {(key: string) => Promise<T>} make */
  constructor(make) {
    this._make = make;
    /** @type {Map<string, Promise<T>>} */
    this._results = new Map();
  }

  /**
   * @param {string} key
   * @returns {Promise<T>}
   */
  get(key) {
    const result = this._results.get(key) ?? this._make(key);
    this._results.delete(key);
    this._results.set(key, result);
    // What failed is tried again the next time.
    result.catch(() => this._results.delete(key));
    if (this._results.size > KEPT) this._results.delete(/** @type {string} */ (this._results.keys().next().value));
    return result;
  }
}

/** @param {Record<string, string | number>} values */
const query = (values) =>
  Object.entries(values)
    .map(([name, value]) => `${name}=${encodeURIComponent(value)}`)
    .join("&");

/** @param {string} address */
async function fetched(address) {
  let response;
  try {
    response = await fetch(address);
  } catch {
    throw new Error("TensorBoard does not answer. Is it still running?");
  }
  if (!response.ok) throw new Error((await response.text()) || `TensorBoard answers with status ${response.status}.`);
  return response;
}

/** @param {string} base64 */
async function gunzip(base64) {
  const compressed = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const stream = new Blob([compressed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}
