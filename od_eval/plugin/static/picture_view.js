/** An image with what is right and wrong in it, as a part of a view: the picture, its legend, its list, its keys. */

import { count } from "./format.js";
import { STYLES, drawPicture, labelText, shapesInImage, sizeOfImage } from "./picture.js";
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "./vendor/preact.js";

/**
 * @typedef {import("./table.js").ObjectTable} ObjectTable
 * @typedef {import("./table.js").Judged} Judged
 * @typedef {import("./table.js").Choice} Choice
 * @typedef {import("./picture.js").Shape} Shape
 * @typedef {import("./picture.js").Focus} Focus
 * @typedef {import("./source.js").Source} Source
 * @typedef {import("./source.js").IndexedEvaluation} IndexedEvaluation
 * @typedef {import("./state.js").State} State
 */

/**
 * What pictures are drawn from.
 *
 * @typedef {object} Scene
 * @property {ObjectTable} table
 * @property {Judged} judged
 * @property {Choice} choice
 * @property {Focus | null} focus
 * @property {Source} source
 * @property {State} state
 * @property {IndexedEvaluation[]} evaluations of the run
 */

// The most that a large image is enlarged; its least height, and how much of the view is left for what is around it.
const MOST_ENLARGED = 8;
const LEAST_HEIGHT = 320;
const HEIGHT_AROUND = 170;

/** @type {Record<import("./picture.js").Outcome, string>} */
const OUTCOMES = {
  right: "right",
  wrong: "wrong (FP)",
  missed: "missed (FN)",
  found: "found objects",
  ignored: "ignored",
  label: "label",
  proposal: "what the detector proposes",
};

/**
 * An image with shapes, as large as there is room.
 *
 * @param {object} props
 * @param {Scene} props.scene
 * @param {number} props.image
 * @param {Shape[]} props.shapes
 * @param {Focus | null} props.focus
 * @param {{width: number, height: number}} props.room
 * @param {boolean} props.isLabeled
 * @param {(x: number, y: number) => void} [props.pointAt] called with a clicked point in pixels of the original image
 */
export function Picture({ scene, image, shapes, focus, room, isLabeled, pointAt }) {
  const { table, source, state } = scene;
  const canvas = useRef(/** @type {HTMLCanvasElement | null} */ (null));
  const size = sizeOfImage(table.images[image], shapes);
  // Where the boxes are in a picture is known only if the size of the original image is.
  const hasPicture = table.images[image].has_picture && table.images[image].width > 0;
  const picture = usePicture(source, String(state.run), Number(state.step), image, hasPicture);
  const enlarged = Math.min(room.width / size.width, room.height / size.height, MOST_ENLARGED);
  const width = Math.max(1, Math.floor(size.width * enlarged));
  useLayoutEffect(() => {
    if (canvas.current) drawPicture(canvas.current, { picture, size, shapes, focus, width, isLabeled });
  }, [picture, size.width, size.height, shapes, focus, width, isLabeled]);
  const onClick = (/** @type {MouseEvent} */ event) => pointAt?.(event.offsetX / enlarged, event.offsetY / enlarged);
  return html`<canvas ref=${canvas} role="img" aria-label=${descriptionOf(shapes)} onClick=${onClick}></canvas>`;
}

/**
 * The picture of an image; null until it is there, or if none is.
 *
 * @param {Source} source
 * @param {string} run
 * @param {number} step
 * @param {number} image
 * @param {boolean} hasPicture
 */
function usePicture(source, run, step, image, hasPicture) {
  const [picture, setPicture] = useState(/** @type {HTMLImageElement | null} */ (null));
  useEffect(() => {
    setPicture(null);
    if (!hasPicture) return;
    let isCurrent = true;
    const load = async () => {
      const loading = new Image();
      loading.src = await source.imageUrl(run, step, image);
      await loading.decode();
      if (isCurrent) setPicture(loading);
    };
    load().catch(() => {}); // the shapes are drawn on gray
    return () => {
      isCurrent = false;
    };
  }, [source, run, step, image, hasPicture]);
  return picture;
}

/**
 * @param {Scene} scene
 * @param {number} image
 */
export function useShapes({ table, judged, choice, focus }, image) {
  return useMemo(() => shapesInImage(table, judged, image, choice.iou, focus), [table, judged, image, choice.iou, focus]);
}

/**
 * How many there are of each outcome, and how they look.
 *
 * @param {{shapes: Shape[]}} props
 */
export function Legend({ shapes }) {
  const outcomes = /** @type {(keyof typeof OUTCOMES)[]} */ (Object.keys(OUTCOMES));
  const rows = outcomes
    .map((outcome) => ({ outcome, num: shapes.filter((shape) => shape.outcome === outcome).length }))
    .filter(({ num }) => num > 0);
  return html`<ul class="images-legend" aria-label="Colors">
    ${rows.map(({ outcome, num }) => html`<li key=${outcome}><${Swatch} outcome=${outcome} /> ${OUTCOMES[outcome]}: ${count(num)}</li>`)}
  </ul>`;
}

/** @param {{outcome: keyof typeof OUTCOMES}} props */
function Swatch({ outcome }) {
  const { color, dash, lineWidth } = STYLES[outcome];
  const y = 6 + (lineWidth % 2) / 2; // sharp lines
  return html`<svg class="images-swatch" width="28" height="12" aria-hidden="true">
    <line x1="0" y1=${y} x2="28" y2=${y} stroke="rgb(20 20 20)" stroke-width=${lineWidth + 2} stroke-dasharray=${dash.join(" ")} />
    <line x1="0" y1=${y} x2="28" y2=${y} stroke=${color} stroke-width=${lineWidth} stroke-dasharray=${dash.join(" ")} />
  </svg>`;
}

/**
 * The shapes as a list of text; the one that is pointed at is vivid in the picture.
 *
 * @param {object} props
 * @param {Scene} props.scene
 * @param {Shape[]} props.shapes
 * @param {Shape | null} props.pointed
 * @param {(shape: Shape | null) => void} props.setPointed
 */
export function ShapeList({ scene, shapes, pointed, setPointed }) {
  const listed = shapes
    .filter((shape) => shape.outcome !== "found")
    .sort((a, b) => Number(isInFocus(scene.focus, b)) - Number(isInFocus(scene.focus, a)) || rank(a) - rank(b));
  return html`<ul class="images-shapes" aria-label="Detections and missed objects" onMouseLeave=${() => setPointed(null)}>
    ${listed.map(
      (shape) => html`<li key=${`${shape.kind} ${shape.row}`}>
        <button type="button" class=${pointed && isSame(pointed, shape) ? "images-pointed" : ""}
          onMouseEnter=${() => setPointed(shape)} onFocus=${() => setPointed(shape)} onBlur=${() => setPointed(null)}>
          <${Swatch} outcome=${shape.outcome} /> ${STYLES[shape.outcome].prefix} <bdi>${shape.name}</bdi> ${shape.score}
          ${" "}${shape.note} ${shape.meant && html`<bdi>${shape.meant}</bdi>`}
        </button>
      </li>`,
    )}
  </ul>`;
}

/**
 * How large a picture may be, so that all of it is seen at once.
 *
 * @param {number} heightAround how much of the view is left for what is around it
 * @returns {[{current: HTMLElement | null}, {width: number, height: number}]} a reference for what the picture is in
 */
export function useRoom(heightAround = HEIGHT_AROUND) {
  const element = useRef(/** @type {HTMLElement | null} */ (null));
  const [room, setRoom] = useState({ width: 0, height: 0 });
  useLayoutEffect(() => {
    const current = element.current;
    if (!current) return;
    const look = () =>
      setRoom({
        width: contentWidth(current),
        height: Math.max(Math.min(current.clientHeight, globalThis.innerHeight) - heightAround, LEAST_HEIGHT),
      });
    look();
    const observer = new ResizeObserver(look);
    observer.observe(current);
    return () => observer.disconnect();
  }, []);
  return [element, room];
}

/** @param {HTMLElement} element */
export function contentWidth(element) {
  const { paddingLeft, paddingRight } = getComputedStyle(element);
  return element.clientWidth - Number.parseFloat(paddingLeft) - Number.parseFloat(paddingRight);
}

/**
 * Focuses an element if what had the focus is not there any more.
 *
 * @param {HTMLElement | null} element
 */
export function takeLostFocus(element) {
  if (document.activeElement === document.body) element?.focus({ preventScroll: true });
}

/**
 * Calls what belongs to a key, unless the key means something else where it is pressed.
 *
 * @param {Record<string, () => void>} actions
 */
export function useKeys(actions) {
  const current = useRef(actions);
  current.current = actions;
  // Before the image is seen: its keys work from then on.
  useLayoutEffect(() => {
    const onKey = (/** @type {KeyboardEvent} */ event) => {
      const target = /** @type {Element} */ (event.target);
      const isTaken = event.altKey || event.ctrlKey || event.metaKey || event.defaultPrevented;
      if (isTaken || target.closest?.("input, select, textarea, [role=tab]") || !(event.key in current.current)) return;
      event.preventDefault();
      current.current[event.key]();
    };
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  }, []);
}

/** @param {Shape[]} shapes */
export function countsInWords(shapes) {
  const numOf = (/** @type {string} */ outcome) => shapes.filter((shape) => shape.outcome === outcome).length;
  return `${numOf("right")} right, ${numOf("wrong")} wrong, ${numOf("missed")} missed`;
}

/** @param {Shape[]} shapes */
function descriptionOf(shapes) {
  const errors = shapes.filter(({ outcome }) => outcome === "wrong" || outcome === "missed");
  return [countsInWords(shapes), ...errors.slice(0, 10).map((shape) => labelText(shape))].join("; ");
}

/** @param {Shape} shape */
export function focusOn(shape) {
  const row = new Set([shape.row]);
  const none = /** @type {Set<number>} */ (new Set());
  return shape.kind === "detection" ? { detections: row, objects: none } : { detections: none, objects: row };
}

/**
 * @param {Focus | null} focus
 * @param {Shape} shape
 */
function isInFocus(focus, shape) {
  return focus !== null && (shape.kind === "detection" ? focus.detections : focus.objects).has(shape.row);
}

/**
 * @param {Shape} a
 * @param {Shape} b
 */
function isSame(a, b) {
  return a.kind === b.kind && a.row === b.row;
}

/** @param {Shape} shape */
function rank(shape) {
  return ["wrong", "missed", "right", "ignored"].indexOf(shape.outcome);
}
