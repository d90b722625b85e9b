/**
 * The view "Images": a table of images to sort, a gallery, and one image large with what is right and wrong in it.
 *
 * With a selection (a cell of the matrix, a bar, a kind of error), only its images are there, and what it means in them
 * stays vivid while the rest is dimmed.
 */

import { Name, count, isolated, number, plural } from "./format.js";
import { Gallery, LargeHeading } from "./gallery.js";
import { ImageTable, column, inOrder, orderOf } from "./image_table.js";
import { shapeAt, shapesInImage } from "./picture.js";
import { Legend, Picture, ShapeList, countsInWords, focusOn, takeLostFocus, useRoom, useShapes } from "./picture_view.js";
import { selected } from "./selection.js";
import { judge, perImage } from "./table.js";
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "./vendor/preact.js";

/**
 * @typedef {import("./table.js").ObjectTable} ObjectTable
 * @typedef {import("./table.js").Choice} Choice
 * @typedef {import("./picture.js").Shape} Shape
 * @typedef {import("./picture.js").Focus} Focus
 * @typedef {import("./picture_view.js").Scene} Scene
 * @typedef {import("./source.js").Source} Source
 * @typedef {import("./source.js").IndexedEvaluation} IndexedEvaluation
 * @typedef {import("./state.js").State} State
 * @typedef {import("./image_table.js").Column} Column
 * @typedef {import("./image_table.js").Order} Order
 */

// In pixels, as in images.css: tiles that are not visible are not drawn, so their sizes must be known.
const TILE = { width: 208, height: 196 };
const TILE_PICTURE = { width: 196, height: 156 };
// Pictures of the same image at other steps. Each is loaded: a long training shows some of its steps.
const MOST_STEPS = 12;
const STEP_PICTURE = { width: 160, height: 160 };

/**
 * @param {object} props
 * @param {ObjectTable} props.table
 * @param {Choice} props.choice
 * @param {State} props.state
 * @param {(change: Partial<State>) => void} props.setState
 * @param {Source} props.source
 * @param {IndexedEvaluation[]} props.evaluations of the run
 */
export function Images({ table, choice, state, setState, source, evaluations }) {
  const selection = useMemo(() => selected(table, choice, state.cell), [table, choice, state.cell]);
  // What a selection means may be of any category.
  const shown = useMemo(() => (selection ? { ...choice, category: null } : choice), [choice, selection]);
  const judged = useMemo(() => judge(table, shown), [table, shown]);
  const ofImages = useMemo(() => perImage(table, judged, shown.iou), [table, judged, shown]);
  const columns = useMemo(() => columnsOf(table, ofImages, selection), [table, ofImages, selection]);
  /** @type {Focus | null} */
  const focus = useMemo(
    () => selection && { detections: new Set(selection.detections), objects: new Set(selection.objects) },
    [selection],
  );
  const order = orderOf(state.order, columns);
  const setOrder = (/** @type {Order} */ { column, isDescending }) =>
    setState({ order: `${column}/${isDescending ? "descending" : "ascending"}` });
  const images = useMemo(() => {
    const { fp, fn } = ofImages;
    return inOrder(imagesWithRows(table, columns, selection, shown), columns, order, (image) => fp[image] + fn[image]);
  }, [table, columns, selection, shown, order.column, order.isDescending]);
  const open = state.image;
  const scene = { table, judged, choice: shown, focus, source, state, evaluations };
  const lastOpen = useRef(/** @type {number | null} */ (null));
  lastOpen.current = open ?? lastOpen.current;
  const openImage = (/** @type {number | null} */ image) => setState({ image });

  return html`<section class="images" aria-label="Images">
    <${Heading} table=${table} images=${images} selection=${selection} choice=${shown} setState=${setState} />
    <div class="images-columns">
      <${ImageTable} all=${table.images} columns=${columns} images=${images} order=${order} setOrder=${setOrder}
        open=${open} openImage=${openImage} />
      ${
        open === null
          ? html`<${Gallery} className="images-gallery" label="Gallery" images=${images} tile=${TILE} lastOpen=${lastOpen.current}
              drawTile=${(/** @type {number} */ image) => html`<${Tile} key=${image} scene=${scene} image=${image}
                openImage=${openImage} isLastOpen=${image === lastOpen.current} />`} />`
          : html`<${LargeImage} scene=${scene} image=${open} images=${images} openImage=${openImage} />`
      }
    </div>
  </section>`;
}

/**
 * @param {object} props
 * @param {ObjectTable} props.table
 * @param {number[]} props.images
 * @param {import("./selection.js").Selection | null} props.selection
 * @param {Choice} props.choice
 * @param {(change: Partial<State>) => void} props.setState
 */
function Heading({ table, images, selection, choice, setState }) {
  if (!selection) {
    const of = choice.category === null ? "" : html` of <${Name} of=${table.categories[choice.category].name} />`;
    return html`<p class="images-heading">${plural(images.length, "image")}${of}</p>`;
  }
  const counted = [
    ...(selection.detections.length ? [plural(selection.detections.length, "detection")] : []),
    ...(selection.objects.length ? [plural(selection.objects.length, "object")] : []),
  ];
  return html`<p class="images-heading">
    <strong>${selection.title}</strong>: ${counted.join(" and ") || "nothing"} in
    ${" "}${plural(images.length, "image")}${" "}
    <button type="button" class="small" onClick=${() => setState({ cell: null, image: null })}>Show all images</button>
  </p>`;
}

// ---- The gallery ----------------------------------------------------------------------------------------------------

/**
 * @param {object} props
 * @param {Scene} props.scene
 * @param {number} props.image
 * @param {(image: number) => void} props.openImage
 * @param {boolean} props.isLastOpen
 */
function Tile({ scene, image, openImage, isLastOpen }) {
  const button = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    if (isLastOpen) takeLostFocus(button.current);
  }, []);
  const { id } = scene.table.images[image];
  const shapes = useShapes(scene, image);
  return html`<li>
    <button type="button" class="images-tile" ref=${button} title=${isolated(String(id))} onClick=${() => openImage(image)}>
      <${Picture} scene=${scene} image=${image} shapes=${shapes} focus=${scene.focus} room=${TILE_PICTURE} isLabeled=${false} />
      <span class="images-caption"><${Name} of=${id} /></span>
    </button>
  </li>`;
}

// ---- One image ------------------------------------------------------------------------------------------------------

/**
 * @param {object} props
 * @param {Scene} props.scene
 * @param {number} props.image
 * @param {number[]} props.images in their order, for next and previous
 * @param {(image: number | null) => void} props.openImage
 */
function LargeImage({ scene, image, images, openImage }) {
  const { table, focus } = scene;
  const shapes = useShapes(scene, image);
  const [pointed, setPointed] = useState(/** @type {Shape | null} */ (null));
  const [article, room] = useRoom();
  useLayoutEffect(() => setPointed(null), [shapes]);
  useEffect(() => takeLostFocus(article.current), []);
  const pointAt = (/** @type {number} */ x, /** @type {number} */ y) => setPointed(shapeAt(shapes, x, y));

  return html`<article class="images-large" ref=${article} tabindex="-1" aria-label=${isolated(String(table.images[image].id))}>
    <${LargeHeading} ...${{ id: table.images[image].id, image, images, openImage }} />
    <div class="images-stage">
      ${
        room.width > 0 &&
        html`<${Picture} scene=${scene} image=${image} shapes=${shapes} focus=${pointed ? focusOn(pointed) : focus}
          room=${room} isLabeled=${true} pointAt=${pointAt} />`
      }
      ${!table.images[image].has_picture && html`<p>No picture of this image was kept.</p>`}
    </div>
    <${Legend} shapes=${shapes} />
    <${ShapeList} scene=${scene} shapes=${shapes} pointed=${pointed} setPointed=${setPointed} />
    <${OtherSteps} key=${image} scene=${scene} image=${image} />
  </article>`;
}

/**
 * What the model found in the same image at other steps, loaded when asked for.
 *
 * @param {object} props
 * @param {Scene} props.scene
 * @param {number} props.image
 */
function OtherSteps({ scene, image }) {
  const { source, state, table, choice, evaluations } = scene;
  const steps = stepsToShow(evaluations, state);
  const [isAsked, setAsked] = useState(false);
  const [found, setFound] = useState(/** @type {{step: number, shapes: Shape[]}[]} */ ([]));
  const [note, setNote] = useState("");

  useEffect(() => {
    if (!isAsked) return;
    let isCurrent = true;
    const load = async () => {
      setFound([]);
      setNote("Loading…");
      for (const step of steps) {
        const { id } = table.images[image];
        const atStep =
          step === state.step ? table : await source.objectsOfImage(String(state.run), step, state.type, String(id));
        if (!isCurrent) return;
        const shapes = shapesAtStep(atStep, id, choice);
        if (shapes) setFound((before) => [...before, { step, shapes }]);
      }
      setNote(`At the same confidence at each step: ${number(choice.confidence)}.`);
    };
    load().catch((error) => isCurrent && setNote(`Not all steps could be loaded: ${error.message}`));
    return () => {
      isCurrent = false;
    };
  }, [isAsked, source, state.run, state.step, state.type, steps.join(), table, image, choice]);

  if (steps.length < 2) return null;
  return html`<section class="images-steps" aria-label="Through training">
    <h3>Through training</h3>
    ${!isAsked && html`<button type="button" class="small" onClick=${() => setAsked(true)}>Show this image at ${steps.length} steps</button>`}
    <ul>
      ${found.map(
        ({ step, shapes }) => html`<li key=${step} class=${step === state.step ? "images-open" : ""}>
          <${Picture} scene=${scene} image=${image} shapes=${shapes} focus=${null} room=${STEP_PICTURE} isLabeled=${false} />
          <span>step ${count(step)}: ${countsInWords(shapes)}</span>
        </li>`,
      )}
    </ul>
    <p role="status">${note}</p>
  </section>`;
}

/**
 * @param {ObjectTable} table of a step
 * @param {number | string} id of the image
 * @param {Choice} choice
 * @returns {Shape[] | null} null if the image was not evaluated at this step
 */
function shapesAtStep(table, id, choice) {
  const image = table.images.findIndex((other) => other.id === id);
  return image < 0 ? null : shapesInImage(table, judge(table, choice), image, choice.iou);
}

/**
 * The steps of the run whose objects are there; of many, some at equal distances, and the first, the newest and the
 * chosen one.
 *
 * @param {IndexedEvaluation[]} evaluations
 * @param {State} state
 */
export function stepsToShow(evaluations, state) {
  const steps = evaluations
    .filter((evaluation) => evaluation.has_objects && evaluation.iou_types.includes(state.type))
    .map(({ step }) => step);
  if (steps.length <= MOST_STEPS) return steps;
  const apart = (steps.length - 1) / (MOST_STEPS - 2);
  const chosen = new Set(Array.from({ length: MOST_STEPS - 1 }, (_, index) => steps[Math.round(index * apart)]));
  return steps.filter((step) => chosen.has(step) || step === state.step);
}

// ---- What is shown --------------------------------------------------------------------------------------------------

/**
 * The columns of the table of images; the first is what images are sorted by until another is chosen.
 *
 * @param {ObjectTable} table
 * @param {import("./table.js").PerImage} perImage
 * @param {import("./selection.js").Selection | null} selection
 * @returns {Column[]}
 */
export function columnsOf(table, { gt, fp, fn, precision, recall, f1, meanIou, worstFp }, selection) {
  const columns = [
    column("f1", "F1", "Harmonic mean of precision and recall", f1, share, 52, false),
    column("gt", "GT", "Objects in the ground truth", gt, count, 44, true),
    column("fp", "FP", "Wrong detections", fp, count, 44, true),
    column("fn", "FN", "Missed objects", fn, count, 44, true),
    column("precision", "Precision", "Part of the detections that is right", precision, share, 76, false),
    column("recall", "Recall", "Part of the objects that was found", recall, share, 60, false),
    column("meanIou", "IoU", "Mean IoU of right detections with their objects", meanIou, share, 50, false),
    column("worstFp", "Worst FP", "Confidence of the most confident wrong detection", worstFp, share, 78, true),
  ];
  if (!selection) return columns;
  const values = rowsPerImage(table, selection);
  return [
    column("selected", "Here", "Detections and objects of what was chosen", values, count, 56, true),
    ...columns,
  ];
}

/** @param {number} value */
function share(value) {
  return value.toFixed(2);
}

/**
 * @param {ObjectTable} table
 * @param {import("./selection.js").Selection} selection
 */
function rowsPerImage(table, selection) {
  const nums = new Uint32Array(table.images.length);
  for (const row of selection.detections) nums[table.detections.image[row]] += 1;
  const withDetection = nums.slice();
  // An object and the detection that stands for it are one example.
  for (const row of selection.objects) {
    const image = table.objects.image[row];
    if (!withDetection[image]) nums[image] += 1;
  }
  return nums;
}

/**
 * The images that a selection has rows in; without one, those that have something of the chosen category.
 *
 * @param {ObjectTable} table
 * @param {Column[]} columns
 * @param {import("./selection.js").Selection | null} selection
 * @param {Choice} choice
 */
function imagesWithRows(table, columns, selection, choice) {
  const all = Array.from(table.images.keys());
  const counted = selection ? ["selected"] : ["gt", "fp"];
  if (!selection && choice.category === null) return all;
  const values = columns.filter(({ name }) => counted.includes(name)).map((column) => column.values);
  return all.filter((image) => values.some((column) => column[image]));
}
