/**
 * Draws an image with what was detected in it and what is there, as `figures/error_pictures.py` does.
 *
 *     const shapes = shapesInImage(table, judged, index, choice.iou);
 *     drawPicture(canvas, {picture, size: table.images[index], shapes, focus: null, width: 640, isLabeled: true});
 *
 * Blue and solid: right. Vermilion and dashed: wrong. Yellow and dotted: missed. Thin and white: an object that was
 * found. Gray: ignored. Yellow and solid: a suspected label; sky blue and dashed: what is proposed. A mask is drawn in
 * place of its box, with the color also inside. The colors are Okabe's and Ito's (Color Universal Design, 2008), which
 * the color-blind can tell apart.
 */

import { penOf, pixelRatio } from "./canvas.js";
import { printable } from "./format.js";
import { hasPixel, maskOf, numPixels, outline } from "./mask.js";
import { ERROR_KINDS, FOUND, IGNORED, IOU_THRESHOLDS, MISSED, NEITHER, RIGHT, WRONG } from "./table.js";

/**
 * @typedef {import("./table.js").ObjectTable} ObjectTable
 * @typedef {import("./table.js").Judged} Judged
 * @typedef {import("./mask.js").Mask} Mask
 * @typedef {"right" | "wrong" | "missed" | "found" | "ignored" | "label" | "proposal"} Outcome the last two: of a label
 *   that is probably wrong, and of what a detector proposes instead
 */

/**
 * A detection or an object to draw.
 *
 * @typedef {object} Shape
 * @property {"detection" | "object"} kind
 * @property {number} row its row in the detections or the objects of the table
 * @property {[number, number, number, number]} box x, y, width, height in pixels of the original image
 * @property {Mask | null} mask null if boxes are matched, or the mask is not known
 * @property {Outcome} outcome
 * @property {string} name of its category, printable
 * @property {string} score of a detection, such as "79%"; of an object ""
 * @property {string} note why it is wrong or ignored, such as "IoU 0.43", "twice", "is", "crowd"; "" if there is nothing
 * @property {string} meant the name of the category after "is": what a wrong detection really is; "" otherwise
 */

/**
 * What stays vivid while the rest of a picture is dimmed: rows of detections and of objects.
 *
 * @typedef {{detections: Pick<Set<number>, "has">, objects: Pick<Set<number>, "has">}} Focus
 */

/**
 * @typedef {object} Rectangle
 * @property {number} left
 * @property {number} top
 * @property {number} right
 * @property {number} bottom
 */

/**
 * How an outcome looks. `ink` is the color of text on `color`; `dash` is the pattern of the line.
 *
 * @type {Record<Outcome, {color: string, ink: string, dash: number[], lineWidth: number, prefix: string}>}
 */
export const STYLES = {
  right: { color: "rgb(0 114 178)", ink: "white", dash: [], lineWidth: 3, prefix: "" },
  wrong: { color: "rgb(213 94 0)", ink: "black", dash: [10, 6], lineWidth: 3, prefix: "FP" },
  missed: { color: "rgb(240 228 66)", ink: "black", dash: [3, 5], lineWidth: 3, prefix: "FN" },
  found: { color: "white", ink: "black", dash: [], lineWidth: 1, prefix: "" },
  ignored: { color: "rgb(170 170 170)", ink: "black", dash: [], lineWidth: 2, prefix: "" },
  label: { color: "rgb(240 228 66)", ink: "black", dash: [], lineWidth: 3, prefix: "label" },
  proposal: { color: "rgb(86 180 233)", ink: "black", dash: [10, 6], lineWidth: 3, prefix: "detector" },
};

const HALO = "rgb(20 20 20)";
const NO_PICTURE = "rgb(90 90 90)";
const TINT = 0.25;
const DIM = "rgb(110 110 110 / 65%)";
const MARGIN_OF_FOCUS = 8;
// Smaller boxes are drawn in this size, or nobody would see them.
const SMALLEST_BOX = 7;
// Between the corners of an outline.
const SMALLEST_STEP = 2.5;
const LABEL_HEIGHT = 18;
const FONT = "13px system-ui, sans-serif";
// The part of a picture's width that one name in a label may take.
const NAME_WIDTH = 0.4;
const LONGEST_NAME = 200;
// How many labels of errors may be away from their boxes, connected with them by a line.
const MOST_FAR_LABELS = 20;
// Where such a label may be: on a grid of this many pixels.
const GRID = { x: 24, y: 12 };
// How many pixels of lines a label may cover at its box before it is put elsewhere.
const COST_OF_FAR = 200;

/** @type {Record<number, Outcome>} */
const DETECTION_OUTCOMES = { [RIGHT]: "right", [WRONG]: "wrong", [NEITHER]: "ignored" };
/** @type {Record<number, Outcome>} */
const OBJECT_OUTCOMES = { [FOUND]: "found", [MISSED]: "missed", [IGNORED]: "ignored" };

/**
 * The detections and objects of an image that a choice uses, and those in focus, whether it uses them or not.
 *
 * @param {ObjectTable} table
 * @param {Judged} judged
 * @param {number} image index of the image
 * @param {number} iou index of the IoU threshold
 * @param {Focus | null} focus
 * @returns {Shape[]} objects first, then detections by descending score
 */
export function shapesInImage(table, judged, image, iou, focus = null) {
  const { detections, objects } = table;
  /** @type {Shape[]} */
  const shapes = [];
  for (const row of rowsOfImage(objects.image, image)) {
    const outcome = OBJECT_OUTCOMES[judged.objects[row]] ?? (focus?.objects.has(row) && "ignored");
    if (!outcome) continue;
    shapes.push({
      kind: "object",
      row,
      box: [objects.x[row], objects.y[row], objects.width[row], objects.height[row]],
      mask: maskOfRow(objects, row, table.images[image]),
      outcome,
      name: categoryName(table, objects.category[row]),
      score: "",
      note: outcome === "ignored" ? kindOfIgnored(table, row) : "",
      meant: "",
    });
  }
  for (const row of rowsOfImage(detections.image, image)) {
    const outcome = DETECTION_OUTCOMES[judged.detections[row]] ?? (focus?.detections.has(row) && "ignored");
    if (!outcome) continue;
    const [note, meant] = whatItIs(table, row, iou, outcome);
    shapes.push({
      kind: "detection",
      row,
      box: [detections.x[row], detections.y[row], detections.width[row], detections.height[row]],
      mask: maskOfRow(detections, row, table.images[image]),
      outcome,
      name: categoryName(table, detections.category[row]),
      score: `${Math.round(100 * detections.score[row])}%`,
      note,
      meant,
    });
  }
  return shapes;
}

/**
 * The rows of an image; a column of image indices ascends.
 *
 * @param {Uint32Array} column
 * @param {number} image
 * @returns {Generator<number, void>}
 */
export function* rowsOfImage(column, image) {
  let low = 0;
  let high = column.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (column[middle] < image) low = middle + 1;
    else high = middle;
  }
  for (let row = low; row < column.length && column[row] === image; row++) yield row;
}

/**
 * What a label says, as one text. Names are isolated, so that one written from right to left moves nothing else.
 *
 * @param {Shape} shape
 * @param {(name: string) => string} shorten what is left of a name if there is little room
 */
export function labelText(shape, shorten = (name) => name) {
  const { prefix } = STYLES[shape.outcome];
  const [name, meant] = [shape.name, shape.meant].map((text) => text && `\u2068${shorten(text)}\u2069`);
  return [prefix, name, shape.score, shape.note, meant].filter((part) => part).join(" ");
}

/**
 * Draws an image and its shapes, and makes the canvas as large as they need.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {object} scene
 * @param {HTMLImageElement | null} scene.picture of any size; null to draw the shapes on gray
 * @param {{width: number, height: number}} scene.size of the original image, which boxes refer to
 * @param {Shape[]} scene.shapes
 * @param {Focus | null} scene.focus what stays vivid and is labeled; null for everything
 * @param {number} scene.width of the canvas, in CSS pixels
 * @param {boolean} scene.isLabeled
 */
export function drawPicture(canvas, { picture, size, shapes, focus, width, isLabeled }) {
  const scale = width / Math.max(size.width, 1);
  const height = Math.max(1, Math.round(size.height * scale));
  const pen = penOf(canvas, width, height);
  pen.scale(pixelRatio(), pixelRatio());
  pen.font = FONT;
  pen.textBaseline = "middle";
  pen.direction = "ltr";

  const placed = shapes
    .map((shape) => ({ shape, ...placeOfShape(shape, scale, width, height) }))
    .filter(({ rectangle }) => rectangle !== null)
    .map(({ shape, rectangle, path }) => ({
      shape,
      rectangle: /** @type {Rectangle} */ (rectangle),
      path,
      isFocus: focus === null || rowsInFocus(focus, shape).has(shape.row),
    }))
    .sort((a, b) => Number(isError(a.shape)) - Number(isError(b.shape)) || area(b.rectangle) - area(a.rectangle));

  const drawImage = () => {
    pen.fillStyle = NO_PICTURE;
    pen.fillRect(0, 0, width, height);
    if (picture) pen.drawImage(picture, 0, 0, width, height);
  };
  drawImage();
  const vivid = placed.filter((each) => each.isFocus);
  if (focus !== null) {
    for (const each of placed) if (!each.isFocus) drawShape(pen, each);
    pen.fillStyle = DIM;
    pen.fillRect(0, 0, width, height);
    pen.save();
    pen.beginPath();
    for (const { rectangle } of vivid) {
      pen.rect(
        rectangle.left - MARGIN_OF_FOCUS,
        rectangle.top - MARGIN_OF_FOCUS,
        rectangle.right - rectangle.left + 2 * MARGIN_OF_FOCUS,
        rectangle.bottom - rectangle.top + 2 * MARGIN_OF_FOCUS,
      );
    }
    pen.clip();
    drawImage();
    pen.restore();
  }
  for (const each of vivid) drawShape(pen, each);
  if (!isLabeled) return;

  const places = new Map(shapes.map((shape, place) => [shape, place]));
  const placeOf = (/** @type {Shape} */ shape) => Number(places.get(shape));
  const labels = vivid
    .filter(({ shape }) => shape.outcome !== "found" || focus !== null)
    // Errors first: missed objects, then wrong detections by descending score, as `shapesInImage` gives them.
    .sort((a, b) => Number(isError(b.shape)) - Number(isError(a.shape)) || placeOf(a.shape) - placeOf(b.shape))
    .map(({ shape, rectangle }) => {
      const text = shortened(
        pen,
        labelText(shape, (name) => shortened(pen, name, NAME_WIDTH * width)),
        width - 8,
      );
      return { shape, text, box: rectangle, width: Math.min(Math.ceil(pen.measureText(text).width) + 6, width) };
    });
  const rectangles = placeLabels(
    labels.map((label) => ({ box: label.box, width: label.width, mayBeFar: isError(label.shape) })),
    vivid.map(({ rectangle }) => rectangle),
    { width, height },
  );
  rectangles.forEach((rectangle, index) => {
    if (rectangle) connect(pen, rectangle, labels[index].box, STYLES[labels[index].shape.outcome].color);
  });
  rectangles.forEach((rectangle, index) => {
    if (rectangle) writeLabel(pen, rectangle, labels[index].text, STYLES[labels[index].shape.outcome]);
  });
}

/**
 * The size of an image; if it is not known, one that its boxes fit in.
 *
 * @param {{width: number, height: number}} image
 * @param {Shape[]} shapes
 */
export function sizeOfImage({ width, height }, shapes) {
  if (width > 0 && height > 0) return { width, height };
  const boxes = shapes.map(({ box }) => box).filter((box) => box.every(Number.isFinite));
  const furthest = (/** @type {0 | 1} */ side) => Math.max(1, ...boxes.map((box) => box[side] + box[side + 2]));
  return { width: furthest(0), height: furthest(1) };
}

/**
 * The smallest shape at a point, in pixels of the original image; null if there is none. A shape is its mask or its box.
 *
 * @param {Shape[]} shapes
 * @param {number} x
 * @param {number} y
 * @returns {Shape | null}
 */
export function shapeAt(shapes, x, y) {
  let [smallest, areaOfSmallest] = [/** @type {Shape | null} */ (null), Infinity];
  for (const shape of shapes) {
    const [left, top, width, height] = shape.box;
    const isInside = shape.mask
      ? hasPixel(shape.mask, Math.floor(x), Math.floor(y))
      : x >= left && x <= left + width && y >= top && y <= top + height;
    if (!isInside) continue;
    const areaOfShape = shape.mask ? numPixels(shape.mask) : width * height;
    if (areaOfShape < areaOfSmallest) [smallest, areaOfSmallest] = [shape, areaOfShape];
  }
  return smallest;
}

/**
 * Where labels are: where they cover no other label and few lines.
 *
 * A label is at its box, or, if there is no room and it may be far, elsewhere. The first ones are placed first.
 *
 * @param {{box: Rectangle, width: number, mayBeFar: boolean}[]} labels
 * @param {Rectangle[]} boxes whose lines are not to be covered
 * @param {{width: number, height: number}} picture
 * @returns {(Rectangle | null)[]} a place for each label; null if there is none
 */
export function placeLabels(labels, boxes, picture) {
  /** @type {Rectangle[]} */
  const taken = [];
  let numFar = 0;
  return labels.map(({ box, width, mayBeFar }) => {
    const near = nearPlaces(box, width, picture);
    let best = cheapest(near, taken, boxes, picture, (place) => 10 * near.indexOf(place));
    if (mayBeFar && best.cost > COST_OF_FAR && numFar < MOST_FAR_LABELS) {
      const far = cheapest(
        gridPlaces(width, picture),
        taken,
        boxes,
        picture,
        (place) => COST_OF_FAR + 4 * distance(place, box),
      );
      if (far.cost < best.cost) {
        best = far;
        numFar += 1;
      }
    }
    if (best.place) taken.push(best.place);
    return best.place;
  });
}

// ---- What shapes are called -----------------------------------------------------------------------------------------

/**
 * The name of a category as `Name` in format.js shows it.
 *
 * @param {ObjectTable} table
 * @param {number} category
 */
function categoryName(table, category) {
  // Not all of a name of a megabyte, of which there is room for a few letters.
  return printable(table.categories[category].name.slice(0, LONGEST_NAME)) || "(no name)";
}

/**
 * What a detection really is if it is not right: a note, and the name of a category that follows it.
 *
 * @param {ObjectTable} table
 * @param {number} row
 * @param {number} iou index of the IoU threshold
 * @param {Outcome} outcome
 * @returns {[string, string]}
 */
function whatItIs(table, row, iou, outcome) {
  const { detections, objects } = table;
  if (outcome === "ignored") {
    const matched = detections.match[10 * row + iou];
    return [matched < 0 ? "not counted" : `matches ${kindOfIgnored(table, matched)}`, ""];
  }
  if (outcome === "right") return ["", ""];
  const kind = ERROR_KINDS[detections.error[row]];
  if (kind === "duplicate") return ["twice", ""];
  if (kind === "background") return ["background", ""];
  const isOther = kind === "class" || kind === "both";
  const object = (isOther ? detections.iou_other_row : detections.iou_row)[row];
  // The table has the best partner of all; if nobody has to find it, the one that counts is not known.
  if (object < 0 || objects.ignored[object]) return [isOther ? "wrong class" : "badly located", ""];
  const name = isOther ? categoryName(table, objects.category[object]) : "";
  if (kind === "class") return ["is", name];
  const overlap = `IoU ${tooLow((isOther ? detections.iou_other : detections.iou)[row], iou)}`;
  return isOther ? [`${overlap} is`, name] : [overlap, ""];
}

/**
 * @param {ObjectTable} table
 * @param {number} row of an object
 */
function kindOfIgnored({ objects }, row) {
  if (objects.crowd[row]) return "crowd";
  return objects.difficult[row] ? "difficult" : "out of choice";
}

/**
 * An IoU that is too low, in two digits that are: 0.499 is too little, 0.50 would not be.
 *
 * @param {number} overlap
 * @param {number} iou index of the IoU threshold
 */
function tooLow(overlap, iou) {
  return Math.min(overlap, IOU_THRESHOLDS[iou] - 0.01).toFixed(2);
}

/** @param {Shape} shape */
function isError(shape) {
  return shape.outcome === "wrong" || shape.outcome === "missed";
}

/**
 * @param {Focus} focus
 * @param {Shape} shape
 */
function rowsInFocus(focus, shape) {
  return shape.kind === "detection" ? focus.detections : focus.objects;
}

/**
 * @param {import("./table.js").Detections | import("./table.js").Objects} columns
 * @param {number} row
 * @param {{width: number, height: number}} image
 */
function maskOfRow({ mask, mask_begin }, row, { width, height }) {
  if (!mask || !mask_begin || mask_begin[row] === mask_begin[row + 1]) return null;
  return maskOf(mask.subarray(mask_begin[row], mask_begin[row + 1]), width, height);
}

// ---- Drawing --------------------------------------------------------------------------------------------------------

/**
 * Where a shape is, in pixels of the canvas.
 *
 * @param {Shape} shape
 * @param {number} scale
 * @param {number} width of the canvas
 * @param {number} height
 * @returns {{rectangle: Rectangle | null, path: Path2D | null}} the rectangle around it, null if it is outside or not
 *   finite; the outline of its mask, null to draw the rectangle
 */
function placeOfShape({ box, mask }, scale, width, height) {
  const polygons = mask ? outline(mask) : [];
  if (!polygons.length) return { rectangle: rectangleOf(box, scale, width, height), path: null };
  const path = new Path2D();
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  for (const corners of polygons) {
    let [lastX, lastY] = [-Infinity, -Infinity];
    for (let at = 0; at < corners.length; at += 2) {
      const [x, y] = [corners[at] * scale, corners[at + 1] * scale];
      [left, right] = [Math.min(left, x), Math.max(right, x)];
      [top, bottom] = [Math.min(top, y), Math.max(bottom, y)];
      // Without steps that nobody sees, a line is drawn faster, and its dashes are as long as those of a box.
      if (Math.abs(x - lastX) + Math.abs(y - lastY) < SMALLEST_STEP) continue;
      if (at) path.lineTo(x, y);
      else path.moveTo(x, y);
      [lastX, lastY] = [x, y];
    }
    path.closePath();
  }
  const around = /** @type {[number, number, number, number]} */ ([left, top, right - left, bottom - top]);
  // A mask that is too small to see is drawn as a box that is not.
  const isSmall = Math.min(around[2], around[3]) < SMALLEST_BOX;
  return { rectangle: rectangleOf(around, 1, width, height), path: isSmall ? null : path };
}

/**
 * A box in pixels of the canvas, cut at its borders, and not too small to see; null if it is outside or not finite.
 *
 * @param {[number, number, number, number]} box
 * @param {number} scale
 * @param {number} width of the canvas
 * @param {number} height
 * @returns {Rectangle | null}
 */
function rectangleOf(box, scale, width, height) {
  if (!box.every(Number.isFinite)) return null;
  const [x, y, w, h] = box.map((value) => value * scale);
  if (x >= width || y >= height || x + w <= 0 || y + h <= 0) return null;
  // Rounded, so that lines are sharp.
  const [left, right] = enlarged(Math.round(Math.max(x, 0)), Math.round(Math.min(x + w, width)), width);
  const [top, bottom] = enlarged(Math.round(Math.max(y, 0)), Math.round(Math.min(y + h, height)), height);
  return { left, top, right, bottom };
}

/**
 * @param {number} low
 * @param {number} high
 * @param {number} most
 */
function enlarged(low, high, most) {
  const missing = Math.max(SMALLEST_BOX - (high - low), 0);
  const start = Math.max(Math.min(low - (missing >> 1), most - SMALLEST_BOX), 0);
  return missing ? [start, Math.min(start + SMALLEST_BOX, most)] : [low, high];
}

/** @param {Rectangle} rectangle */
function area({ left, top, right, bottom }) {
  return (right - left) * (bottom - top);
}

/**
 * @param {CanvasRenderingContext2D} pen
 * @param {{shape: Shape, rectangle: Rectangle, path: Path2D | null}} placed
 */
function drawShape(pen, { shape, rectangle: { left, top, right, bottom }, path }) {
  const { color, dash, lineWidth } = STYLES[shape.outcome];
  const inset = lineWidth / 2;
  const box = /** @type {const} */ ([left + inset, top + inset, right - left - lineWidth, bottom - top - lineWidth]);
  // What found an object has its own color.
  if (path && shape.outcome !== "found") {
    pen.globalAlpha = TINT;
    pen.fillStyle = color;
    pen.fill(path, "evenodd");
    pen.globalAlpha = 1;
  }
  pen.setLineDash(dash);
  for (const [style, width] of /** @type {const} */ ([
    [HALO, lineWidth + 2],
    [color, lineWidth],
  ])) {
    pen.strokeStyle = style;
    pen.lineWidth = width;
    if (path) pen.stroke(path);
    else pen.strokeRect(...box);
  }
  pen.setLineDash([]);
}

/**
 * Draws a line from a label to its box if they are apart.
 *
 * @param {CanvasRenderingContext2D} pen
 * @param {Rectangle} label
 * @param {Rectangle} box
 * @param {string} color
 */
function connect(pen, label, box, color) {
  const [fromX, toX] = ends(label.left, label.right, box.left, box.right);
  const [fromY, toY] = ends(label.top, label.bottom, box.top, box.bottom);
  if (Math.max(Math.abs(fromX - toX), Math.abs(fromY - toY)) <= 4) return;
  for (const [style, lineWidth] of /** @type {const} */ ([
    [HALO, 4],
    [color, 2],
  ])) {
    pen.strokeStyle = style;
    pen.lineWidth = lineWidth;
    pen.beginPath();
    pen.moveTo(fromX, fromY);
    pen.lineTo(toX, toY);
    pen.stroke();
  }
}

/**
 * Where a line between two intervals begins and ends: at one place if they overlap.
 *
 * @param {number} low
 * @param {number} high
 * @param {number} otherLow
 * @param {number} otherHigh
 */
function ends(low, high, otherLow, otherHigh) {
  const [from, to] = [Math.max(low, otherLow), Math.min(high, otherHigh)];
  if (from <= to) return [(from + to) / 2, (from + to) / 2];
  return low < otherLow ? [high, otherLow] : [low, otherHigh];
}

/**
 * @param {CanvasRenderingContext2D} pen
 * @param {Rectangle} place
 * @param {string} text
 * @param {{color: string, ink: string}} style
 */
function writeLabel(pen, { left, top, right, bottom }, text, { color, ink }) {
  pen.save();
  pen.beginPath();
  pen.rect(left, top, right - left, bottom - top);
  pen.clip(); // parts above and below the line, as in some scripts
  pen.fillStyle = color;
  pen.fillRect(left, top, right - left, bottom - top);
  pen.fillStyle = ink;
  pen.fillText(text, left + 3, (top + bottom) / 2 + 0.5);
  pen.restore();
}

/**
 * As much of the beginning of a text as there is room for, with an ellipsis.
 *
 * @param {CanvasRenderingContext2D} pen
 * @param {string} text
 * @param {number} width
 */
function shortened(pen, text, width) {
  if (pen.measureText(text).width <= width) return text;
  const characters = [...text];
  let [fits, tooLong] = [0, characters.length];
  while (tooLong - fits > 1) {
    const middle = (fits + tooLong) >> 1;
    if (pen.measureText(`${characters.slice(0, middle).join("")}…`).width <= width) fits = middle;
    else tooLong = middle;
  }
  return fits ? `${characters.slice(0, fits).join("")}…` : "";
}

// ---- Places of labels -----------------------------------------------------------------------------------------------

/**
 * @param {Rectangle} box
 * @param {number} width
 * @param {{width: number, height: number}} picture
 */
function nearPlaces({ left, top, right, bottom }, width, picture) {
  const above = top - LABEL_HEIGHT - 1;
  const below = bottom + 1;
  return /** @type {const} */ ([
    [left, above],
    [right - width, above],
    [left, below],
    [right - width, below],
    [left + 4, top + 4],
    [left + 4, bottom - 4 - LABEL_HEIGHT],
    [right + 1, top],
    [left - width - 1, top],
  ]).map(([x, y]) => labelAt(Math.max(Math.min(x, picture.width - width), 0), y, width));
}

/**
 * @param {number} width
 * @param {{width: number, height: number}} picture
 */
function gridPlaces(width, picture) {
  const places = [];
  for (let y = 0; y + LABEL_HEIGHT <= picture.height; y += GRID.y) {
    for (let x = 0; x + width <= picture.width; x += GRID.x) places.push(labelAt(x, y, width));
  }
  return places;
}

/**
 * @param {number} left
 * @param {number} top
 * @param {number} width
 * @returns {Rectangle}
 */
function labelAt(left, top, width) {
  return { left, top, right: left + width, bottom: top + LABEL_HEIGHT };
}

/**
 * The place with the least cost, to which the pixels of lines that a label covers there are added, and this sum.
 *
 * @param {Rectangle[]} places
 * @param {Rectangle[]} taken
 * @param {Rectangle[]} boxes
 * @param {{height: number}} picture
 * @param {(place: Rectangle) => number} costOf
 */
function cheapest(places, taken, boxes, picture, costOf) {
  /** @type {{place: Rectangle | null, cost: number}} */
  let best = { place: null, cost: Infinity };
  for (const place of places) {
    if (place.top < 0 || place.bottom > picture.height) continue;
    let cost = costOf(place);
    if (cost >= best.cost || taken.some((other) => overlap(place, other))) continue;
    for (const box of boxes) {
      cost += coveredLines(place, box);
      if (cost >= best.cost) break;
    }
    if (cost < best.cost) best = { place, cost };
  }
  return best;
}

/**
 * @param {Rectangle} a
 * @param {Rectangle} b
 */
function overlap(a, b) {
  return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
}

/**
 * How many pixels of a box's lines, three pixels wide, a label covers.
 *
 * @param {Rectangle} label
 * @param {Rectangle} box
 */
function coveredLines(label, box) {
  if (!overlap(label, box)) return 0;
  const across = Math.min(label.right, box.right) - Math.max(label.left, box.left);
  const down = Math.min(label.bottom, box.bottom) - Math.max(label.top, box.top);
  const isInside = (/** @type {number} */ line, /** @type {number} */ low, /** @type {number} */ high) =>
    Number(line > low && line < high);
  return (
    3 * across * (isInside(box.top, label.top, label.bottom) + isInside(box.bottom, label.top, label.bottom)) +
    3 * down * (isInside(box.left, label.left, label.right) + isInside(box.right, label.left, label.right))
  );
}

/**
 * @param {Rectangle} a
 * @param {Rectangle} b
 */
function distance(a, b) {
  const x = Math.max(a.left - b.right, b.left - a.right, 0);
  const y = Math.max(a.top - b.bottom, b.top - a.bottom, 0);
  return Math.max(x, y);
}
