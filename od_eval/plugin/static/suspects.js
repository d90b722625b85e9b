/**
 * Suspected label errors, where they are in the object table, and what a person decides of them. Pure functions.
 */

import { printable } from "./format.js";
import { rowsOfImage, shapesInImage } from "./picture.js";
import { quoted } from "./selection.js";

/**
 * @typedef {import("./table.js").ObjectTable} ObjectTable
 * @typedef {import("./table.js").Judged} Judged
 * @typedef {import("./picture.js").Focus} Focus
 * @typedef {import("./picture.js").Shape} Shape
 *
 * @typedef {object} Annotation What is proposed, as in label_suspects.json; docs/metrics.md describes it.
 * @property {number} image_id
 * @property {number} category_id
 * @property {[number, number, number, number]} bbox x, y, width, height in pixels of the original image
 * @property {number} [score]
 * @property {{suspect: string, suspicion: number, groundtruth_row: number}} attributes
 *
 * @typedef {object} Suspects As the server gives them: `page_data.suspects` describes them.
 * @property {{id: number, file_name: string}[]} images
 * @property {{id: number, name: string}[]} categories
 * @property {Annotation[]} annotations
 * @property {number[]} image_indices
 * @property {number} num_found
 * @property {number} num_evaluations
 *
 * @typedef {object} Suspect
 * @property {Annotation} annotation
 * @property {string} key the same wherever the same is proposed, in another evaluation, too
 * @property {keyof typeof TITLES} kind
 * @property {number} image index of its image in the table
 * @property {number} detection row of what is proposed; -1 if it is not in the table
 * @property {number} object row of the label; -1 if there is none
 * @property {number | null} iou of the two; null if there are no two
 * @property {string} proposed name of the category that is proposed
 * @property {string | null} labeled that of the label; null if there is none
 *
 * @typedef {"yes" | "no" | "unsure"} Decision whether the label is wrong
 * @typedef {Record<string, Decision>} Decisions by the keys of suspects
 */

export const TITLES = {
  missing: "Not labeled",
  class: "Wrong class",
  location: "Badly placed",
  extra: "Nothing there",
};

/** In pixels: how much the sides of the same box differ at most. Evaluation sets are told apart as exactly. */
const SAME_BOX = 0.1;
/** Of a name that stands in a picture. */
const LONGEST_NAME = 200;
/** @type {Decision[]} */
export const DECISIONS = ["yes", "no", "unsure"];

/**
 * The suspects of an evaluation, most suspicious first.
 * @param {ObjectTable} table of the same evaluation
 * @param {Suspects} data
 * @returns {Suspect[]}
 */
export function suspectsOf(table, data) {
  const images = new Map(data.images.map(({ id }, at) => [id, data.image_indices[at]]));
  const categories = new Map(table.categories.map(({ id }, at) => [id, at]));
  return data.annotations.map((annotation) => {
    const { image_id, category_id, bbox, attributes } = annotation;
    const image = Number(images.get(image_id));
    const category = Number(categories.get(category_id));
    const kind = /** @type {keyof typeof TITLES} */ (attributes.suspect);
    const isExtra = kind === "extra";
    const detection = isExtra ? -1 : rowOfBox(table.detections, image, category, bbox);
    const object = isExtra ? rowOfBox(table.objects, image, category, bbox) : attributes.groundtruth_row;
    const labeled = isExtra ? category : object >= 0 ? table.objects.category[object] : null;
    return {
      annotation,
      key: JSON.stringify([kind, table.images[image].id, category_id, ...bbox]),
      kind,
      image,
      detection,
      object,
      iou: detection < 0 || object < 0 ? null : table.detections[kind === "class" ? "iou_other" : "iou"][detection],
      proposed: table.categories[category].name,
      labeled: labeled === null ? null : table.categories[labeled].name,
    };
  });
}

/**
 * @param {import("./table.js").Detections | import("./table.js").Objects} columns
 * @param {number} image
 * @param {number} category
 * @param {[number, number, number, number]} box
 */
function rowOfBox(columns, image, category, box) {
  for (const row of rowsOfImage(columns.image, image)) {
    const other = [columns.x[row], columns.y[row], columns.width[row], columns.height[row]];
    const isSame = other.every((value, side) => Math.abs(value - box[side]) < SAME_BOX);
    if (isSame && columns.category[row] === category) return row;
  }
  return -1;
}

/**
 * What is suspected, in one sentence.
 * @param {Suspect} suspect
 * @param {number} numEvaluations which "missing" and "extra" rest on
 */
export function sentence({ kind, proposed, labeled, iou, annotation }, numEvaluations) {
  const [actual, other] = [quoted(labeled ?? ""), quoted(proposed)];
  const score = (annotation.score ?? 0).toFixed(2);
  if (kind === "class") return `Label ${actual} is probably ${other} (the detector: ${other} ${score}).`;
  if (kind === "location") {
    const overlap = iou === null ? "" : `, IoU ${iou.toFixed(2)}`;
    return `Label ${actual} is probably badly placed (the detector: ${other} ${score}${overlap}).`;
  }
  const isOfAll = numEvaluations > 1;
  if (kind === "missing") {
    const which = isOfAll ? "the detector, on average of its evaluations" : "the detector";
    return `${other} is probably not labeled (${which}: ${score}).`;
  }
  const why = isOfAll ? "the last evaluations do not find it" : "no detection is there";
  return `Label ${actual} probably marks nothing (${why}).`;
}

/**
 * Indices of the suspects of a kind and category.
 * @param {Suspect[]} suspects
 * @param {string | null} kind null for all
 * @param {string | null} category its name, of the label or of what is proposed; null for all
 */
export const filtered = (suspects, kind, category) =>
  [...suspects.keys()].filter((at) => {
    const { kind: of, proposed, labeled } = suspects[at];
    return (kind === null || of === kind) && (category === null || proposed === category || labeled === category);
  });

/**
 * The next suspect that is not decided, after another one and then from the beginning; null if all are.
 * @param {Suspect[]} suspects
 * @param {number[]} among indices, ascending
 * @param {number} after an index
 * @param {Decisions} decisions
 */
export function nextUndecided(suspects, among, after, decisions) {
  const open = among.filter((at) => !Object.hasOwn(decisions, suspects[at].key));
  return open.find((at) => at > after) ?? open[0] ?? null;
}

/**
 * How many of some suspects are decided, and how.
 * @param {Suspect[]} suspects
 * @param {number[]} among indices
 * @param {Decisions} decisions
 */
export function tally(suspects, among, decisions) {
  const made = among.map((at) => decisions[suspects[at].key]);
  const [yes, no, unsure] = DECISIONS.map((decision) => made.filter((other) => other === decision).length);
  return { yes, no, unsure, decided: yes + no + unsure };
}

/**
 * What was decided, in COCO's format: an annotation with `attributes.decision` for each suspect that is decided, with
 * all else as in label_suspects.json. Where it is "yes", the annotation is right and not the label; of "extra", the
 * annotation is the label that has to go.
 * @param {Suspects} data
 * @param {Suspect[]} suspects of these
 * @param {Decisions} decisions
 */
export function decidedJson(data, suspects, decisions) {
  const decided = suspects.filter(({ key }) => Object.hasOwn(decisions, key));
  const images = new Set(decided.map(({ annotation }) => annotation.image_id));
  return {
    images: data.images.filter(({ id }) => images.has(id)),
    categories: data.categories,
    annotations: decided.map(({ annotation, key }) => ({
      ...annotation,
      attributes: { ...annotation.attributes, decision: decisions[key] },
    })),
  };
}

/**
 * What is in the image of a suspect, and what of it is vivid: the label and what is proposed.
 * @param {ObjectTable} table
 * @param {Judged} judged
 * @param {number} iou index of the threshold
 * @param {Suspect} suspect
 * @returns {[Focus, Shape[]]}
 */
export function shapesOfSuspect(table, judged, iou, { kind, image, detection, object, proposed, annotation }) {
  // What another evaluation proposes is no row of this table.
  const isElsewhere = kind !== "extra" && detection < 0;
  const proposedRow = isElsewhere ? table.detections.rows : detection;
  const focus = { detections: new Set([proposedRow]), objects: new Set([object]) };
  const shapes = shapesInImage(table, judged, image, iou, focus).map((shape) => {
    const isVivid = shape.row === (shape.kind === "object" ? object : proposedRow);
    /** @type {Shape["outcome"]} */
    const outcome = shape.kind === "object" ? "label" : "proposal";
    return isVivid ? { ...shape, outcome, note: "", meant: "" } : shape;
  });
  if (!isElsewhere) return [focus, shapes];
  /** @type {Shape} */
  const shape = {
    kind: "detection",
    row: proposedRow,
    box: annotation.bbox,
    mask: null,
    outcome: "proposal",
    name: printable(proposed.slice(0, LONGEST_NAME)) || "(no name)",
    score: `${Math.round(100 * (annotation.score ?? 0))}%`,
    note: "",
    meant: "",
  };
  return [focus, [...shapes, shape]];
}

/**
 * Whether a detection is right, without which a detector is no judge of labels.
 * @param {ObjectTable} table
 */
export function isJudge({ detections, objects }) {
  for (let row = 0; row < detections.rows; row++) {
    const object = detections.match[10 * row];
    if (object >= 0 && !objects.ignored[object]) return true;
  }
  return false;
}
