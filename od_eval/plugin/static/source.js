/**
 * Where the page gets its data from: the server in TensorBoard, or its own file, as a report.
 */

import { mirrored } from "./changes.js";
import { parseLabels } from "./segmentation.js";
import { parseTable } from "./table.js";

/**
 * @typedef {import("./table.js").ObjectTable} ObjectTable
 * @typedef {{step: number, iou_types: ("bbox" | "segm")[], has_objects: boolean, has_segmentation: boolean,
 *   has_pixels: boolean, metrics: Record<string, number | null>}} IndexedEvaluation `page_data.index` describes it.
 * @typedef {{runs: {name: string, evaluations: IndexedEvaluation[]}[]}} Index Runs by name, evaluations by step.
 * @typedef {Record<string, any>} Evaluation The metrics file of an evaluation; docs/metrics.md describes it.
 * @typedef {import("./segmentation.js").Labels} Labels
 * @typedef {import("./segmentation.js").Segmentation} Segmentation
 * @typedef {import("./suspects.js").Suspects} Suspects
 * @typedef {{run: string, step: number}} Chosen
 * @typedef {import("./changes.js").Comparison} Comparison
 * @typedef {import("./changes.js").History} History
 *
 * @typedef {object} Source
 * @property {() => Promise<Index>} index what there is; asked anew each time
 * @property {(run: string, step: number) => Promise<Evaluation>} evaluation
 * @property {(run: string, step: number, type: "bbox" | "segm") => Promise<ObjectTable>} objects
 * @property {(run: string, step: number, type: "bbox" | "segm", image: string) => Promise<ObjectTable>} objectsOfImage a
 *   table with this image, by its id, and its objects; without it if it was not evaluated at that step
 * @property {(run: string, step: number, type: "bbox" | "segm") => Promise<Suspects>} suspects
 * @property {(a: Chosen, b: Chosen, type: "bbox" | "segm") => Promise<Comparison>} comparison takes seconds for large sets
 * @property {(run: string, type: "bbox" | "segm") => Promise<History>} history
 * @property {(run: string, step: number) => Promise<Segmentation>} segmentation
 * @property {(run: string, step: number, image: number) => Promise<Labels>} labels of the pixels of an image, by its
 *   index in the images of the segmentation
 * @property {(run: string, step: number, image: number) => Promise<string>} segmentationImageUrl of the same image
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
    const json = (/** @type {string} */ address) => fetched(address).then((response) => response.json());
    this._evaluations = new Kept(json);
    this._comparisons = new Kept(json);
    this._histories = new Kept(json);
    this._objects = new Kept(fetchedTable);
    this._suspects = new Kept(json);
    this._segmentations = new Kept(json);
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
   * @param {"bbox" | "segm"} type
   * @param {string} image
   */
  objectsOfImage(run, step, type, image) {
    return fetchedTable(`objects?${query({ run, step, type, image })}`);
  }

  /**
   * @param {string} run
   * @param {number} step
   * @param {"bbox" | "segm"} type
   */
  suspects(run, step, type) {
    return this._suspects.get(`suspects?${query({ run, step, type })}`);
  }

  /**
   * @param {string} run
   * @param {number} step
   * @param {number} image
   */
  async imageUrl(run, step, image) {
    return `image?${query({ run, step, index: image })}`;
  }

  /**
   * @param {string} run
   * @param {number} step
   * @returns {Promise<Segmentation>}
   */
  segmentation(run, step) {
    return this._segmentations.get(`segmentation?${query({ run, step })}`);
  }

  /**
   * @param {string} run
   * @param {number} step
   * @param {number} image
   */
  async segmentationImageUrl(run, step, image) {
    return `segmentation_image?${query({ run, step, index: image })}`;
  }

  /**
   * @param {string} run
   * @param {number} step
   * @param {number} image
   */
  async labels(run, step, image) {
    return parseLabels(await (await fetched(`labels?${query({ run, step, index: image })}`)).arrayBuffer());
  }

  /**
   * @param {Chosen} a
   * @param {Chosen} b
   * @param {"bbox" | "segm"} type
   * @returns {Promise<Comparison>}
   */
  comparison(a, b, type) {
    return this._comparisons.get(`comparison?${query({ ...b, other_run: a.run, other_step: a.step, type })}`);
  }

  /**
   * @param {string} run
   * @param {"bbox" | "segm"} type
   * @returns {Promise<History>}
   */
  history(run, type) {
    return this._histories.get(`history?${query({ run, type })}`);
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
    const unpacked = async (/** @type {string} */ id) =>
      JSON.parse(new TextDecoder().decode(await gunzip(this._text(id))));
    this._histories = new Kept(unpacked);
    this._segmentations = new Kept(unpacked);
    this._objects = new Kept(async (id) => {
      await painted();
      return parseTable(await gunzip(this._text(id)));
    });
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
   * @param {"bbox" | "segm"} type
   */
  objectsOfImage(run, step, type) {
    return this.objects(run, step, type);
  }

  /**
   * @param {string} run
   * @param {number} step
   * @param {"bbox" | "segm"} type
   * @returns {Promise<Suspects>}
   */
  async suspects(run, step, type) {
    return JSON.parse(this._text(`suspects-${this._position(run)}-${step}-${type}`));
  }

  /**
   * @param {string} run
   * @param {number} step
   * @param {number} image
   */
  async imageUrl(run, step, image) {
    return `data:image/jpeg;base64,${this._text(`image-${this._position(run)}-${step}-${image}`)}`;
  }

  /**
   * @param {string} run
   * @param {number} step
   * @returns {Promise<Segmentation>}
   */
  segmentation(run, step) {
    return this._segmentations.get(`segmentation-${this._position(run)}-${step}`);
  }

  /**
   * @param {string} run
   * @param {number} step
   * @param {number} image
   */
  async segmentationImageUrl(run, step, image) {
    return `data:image/jpeg;base64,${this._text(`segmentation-image-${this._position(run)}-${step}-${image}`)}`;
  }

  /**
   * @param {string} run
   * @param {number} step
   * @param {number} image
   */
  async labels(run, step, image) {
    return parseLabels(await gunzip(this._text(`labels-${this._position(run)}-${step}-${image}`)));
  }

  /**
   * @param {Chosen} a
   * @param {Chosen} b
   * @param {"bbox" | "segm"} type
   * @returns {Promise<Comparison>}
   */
  async comparison(a, b, type) {
    const [from, to] = [this._position(a.run), this._position(b.run)];
    const id = `comparison-${from}-${to}-${type}`;
    // Of two runs that can be compared, one direction is there.
    if (!this._document.getElementById(id)) return mirrored(JSON.parse(this._text(`comparison-${to}-${from}-${type}`)));
    const comparison = JSON.parse(this._text(id));
    if (comparison.problem) throw new Error(comparison.problem);
    return comparison;
  }

  /**
   * @param {string} run
   * @param {"bbox" | "segm"} type
   * @returns {Promise<History>}
   */
  history(run, type) {
    return this._histories.get(`history-${this._position(run)}-${type}`);
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

/**
 * @param {string} address
 * @returns {Promise<ObjectTable>}
 */
const fetchedTable = async (address) => parseTable(await (await fetched(address)).arrayBuffer());

/** Lets the browser show what there is before it is busy with a large table. */
const painted = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));

/** @param {string} base64 */
async function gunzip(base64) {
  const stream = new Blob([bytesOf(base64)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

/**
 * @param {string} base64
 * @returns {Uint8Array}
 */
function bytesOf(base64) {
  const characters = atob(base64);
  const bytes = new Uint8Array(characters.length);
  // With a loop, as `Uint8Array.from` takes twenty times as long.
  for (let at = 0; at < bytes.length; at++) bytes[at] = characters.charCodeAt(at);
  return bytes;
}
