/**
 * The view "Images": a table of images to sort, a gallery, and one image large with what is right and wrong in it.
 *
 * With a selection (a cell of the matrix, a bar, a kind of error), only its images are there, and what it means in them
 * stays vivid while the rest is dimmed.
 */

import { Name, count, isolated, number } from "./format.js";
import { STYLES, drawPicture, labelText, shapeAt, shapesInImage, sizeOfImage } from "./picture.js";
import { selected } from "./selection.js";
import { judge, perImage } from "./table.js";
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
 * @typedef {{column: string, isDescending: boolean}} Order
 */

/**
 * A column of the table.
 *
 * @typedef {object} Column
 * @property {string} name
 * @property {string} title
 * @property {string} about what it means, in words
 * @property {ArrayLike<number>} values one for each image; NaN for none
 * @property {(value: number) => string} format
 * @property {number} width in pixels
 * @property {boolean} isWorstHigh whether the images to look at first have high values
 */

// In pixels, as in images.css: rows and tiles that are not visible are not drawn, so their sizes must be known.
const ROW_HEIGHT = 28;
const TILE = { width: 208, height: 196 };
const TILE_PICTURE = { width: 196, height: 156 };
// The most that a large image is enlarged; its least height, and how much of the view is left for what is around it.
const MOST_ENLARGED = 8;
const LEAST_HEIGHT = 320;
const HEIGHT_AROUND = 170;
// Pictures of the same image at other steps. A table is loaded for each: a long training shows some of its steps.
const MOST_STEPS = 12;
const STEP_PICTURE = { width: 160, height: 160 };

/** @type {Record<import("./picture.js").Outcome, string>} */
const OUTCOMES = {
  right: "right",
  wrong: "wrong (FP)",
  missed: "missed (FN)",
  found: "found objects",
  ignored: "ignored",
};

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
  const columns = useMemo(
    () => columnsOf(table, perImage(table, judged, shown.iou), selection),
    [table, judged, shown, selection],
  );
  /** @type {Focus | null} */
  const focus = useMemo(
    () => selection && { detections: new Set(selection.detections), objects: new Set(selection.objects) },
    [selection],
  );
  const [chosenOrder, setOrder] = useState(/** @type {Order | null} */ (null));
  const order =
    columns.some(({ name }) => name === chosenOrder?.column) && chosenOrder
      ? chosenOrder
      : { column: columns[0].name, isDescending: columns[0].isWorstHigh };
  const images = useMemo(
    () => inOrder(imagesWithRows(table, columns, selection, shown), columns, order),
    [table, columns, selection, shown, order.column, order.isDescending],
  );
  const open = state.image;
  const scene = { table, judged, choice: shown, focus, source, state, evaluations };
  const lastOpen = useRef(/** @type {number | null} */ (null));
  lastOpen.current = open ?? lastOpen.current;
  const openImage = (/** @type {number | null} */ image) => setState({ image });

  return html`<section class="images" aria-label="Images">
    <${Heading} table=${table} images=${images} selection=${selection} choice=${shown} setState=${setState} />
    <div class="images-columns">
      <${ImageTable} table=${table} columns=${columns} images=${images} order=${order} setOrder=${setOrder}
        open=${open} openImage=${openImage} />
      ${
        open === null
          ? html`<${Gallery} scene=${scene} images=${images} openImage=${openImage} lastOpen=${lastOpen.current} />`
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

// ---- The table ------------------------------------------------------------------------------------------------------

/**
 * @param {object} props
 * @param {ObjectTable} props.table
 * @param {Column[]} props.columns
 * @param {number[]} props.images
 * @param {Order} props.order
 * @param {(order: Order) => void} props.setOrder
 * @param {number | null} props.open
 * @param {(image: number) => void} props.openImage
 */
function ImageTable({ table, columns, images, order, setOrder, open, openImage }) {
  const scroller = useRef(/** @type {HTMLElement | null} */ (null));
  const visible = useVisible(scroller, images.length, () => ({ height: ROW_HEIGHT, perRow: 1 }));
  useLayoutEffect(() => {
    const place = open === null ? -1 : images.indexOf(open);
    if (place >= 0 && scroller.current) showRow(scroller.current, place);
  }, [open, images]);

  return html`<div class="images-table" ref=${scroller} tabindex="0" role="region" aria-label="Table of images">
    <table aria-rowcount=${images.length + 1}>
      <thead>
        <tr aria-rowindex="1">
          <th scope="col" class="images-name">Image</th>
          ${columns.map((column) => html`<${ColumnHeading} key=${column.name} column=${column} order=${order} setOrder=${setOrder} />`)}
        </tr>
      </thead>
      <tbody>
        ${visible.before > 0 && html`<tr key="before" aria-hidden="true" style=${{ height: `${visible.before}px` }}></tr>`}
        ${images.slice(visible.first, visible.last).map(
          (image, index) => html`<tr key=${image} aria-rowindex=${visible.first + index + 2}
            class=${image === open ? "images-open" : ""} onClick=${() => openImage(image)}>
            <th scope="row" class="images-name">
              <button type="button" class="images-link" aria-current=${image === open ? "true" : undefined}
                title=${isolated(String(table.images[image].id))}><${Name} of=${table.images[image].id} /></button>
            </th>
            ${columns.map(({ name, values, format }) => html`<td key=${name}>${Number.isNaN(values[image]) ? "–" : format(values[image])}</td>`)}
          </tr>`,
        )}
        ${visible.after > 0 && html`<tr key="after" aria-hidden="true" style=${{ height: `${visible.after}px` }}></tr>`}
      </tbody>
    </table>
    ${images.length === 0 && html`<p class="images-empty">No image.</p>`}
  </div>`;
}

/**
 * @param {object} props
 * @param {Column} props.column
 * @param {Order} props.order
 * @param {(order: Order) => void} props.setOrder
 */
function ColumnHeading({ column, order, setOrder }) {
  const isSorted = order.column === column.name;
  const sort = () =>
    setOrder({ column: column.name, isDescending: isSorted ? !order.isDescending : column.isWorstHigh });
  return html`<th scope="col" style=${{ width: `${column.width}px` }} aria-sort=${isSorted ? (order.isDescending ? "descending" : "ascending") : undefined}>
    <button type="button" title=${column.about} onClick=${sort}>
      ${column.title}<span class="images-arrow" aria-hidden="true">${isSorted ? (order.isDescending ? "▼" : "▲") : ""}</span>
    </button>
  </th>`;
}

/**
 * Scrolls a table so that a row is visible.
 *
 * @param {HTMLElement} scroller
 * @param {number} row
 */
function showRow(scroller, row) {
  const heading = scroller.querySelector("thead")?.offsetHeight ?? 0;
  const top = row * ROW_HEIGHT;
  const room = scroller.clientHeight - heading;
  if (top < scroller.scrollTop) scroller.scrollTop = top;
  else if (top + ROW_HEIGHT > scroller.scrollTop + room) scroller.scrollTop = top + ROW_HEIGHT - room;
}

// ---- The gallery ----------------------------------------------------------------------------------------------------

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

/**
 * @param {object} props
 * @param {Scene} props.scene
 * @param {number[]} props.images
 * @param {(image: number) => void} props.openImage
 * @param {number | null} props.lastOpen where the gallery begins; null for the first image
 */
function Gallery({ scene, images, openImage, lastOpen }) {
  const scroller = useRef(/** @type {HTMLElement | null} */ (null));
  const sizeOfRow = (/** @type {number} */ width) => ({
    height: TILE.height,
    perRow: Math.max(1, Math.floor(width / TILE.width)),
  });
  const visible = useVisible(scroller, images.length, sizeOfRow);
  const isMeasured = visible.last > visible.first;
  useLayoutEffect(() => {
    const place = lastOpen === null ? -1 : images.indexOf(lastOpen);
    if (!isMeasured || place < 0 || !scroller.current) return;
    scroller.current.scrollTop = TILE.height * Math.floor(place / sizeOfRow(contentWidth(scroller.current)).perRow);
  }, [isMeasured]);
  return html`<div class="images-gallery" ref=${scroller} tabindex="0" role="region" aria-label="Gallery">
    <div style=${{ height: `${visible.before}px` }}></div>
    <ul>
      ${images
        .slice(visible.first, visible.last)
        .map(
          (image) => html`<${Tile} key=${image} scene=${scene} image=${image} openImage=${openImage}
            isLastOpen=${image === lastOpen} />`,
        )}
    </ul>
    <div style=${{ height: `${visible.after}px` }}></div>
    ${images.length === 0 && html`<p class="images-empty">No image.</p>`}
  </div>`;
}

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
  const place = images.indexOf(image);
  const previous = place > 0 ? images[place - 1] : null;
  // An image that is not among those of the selection is followed by the first of them.
  const next = place + 1 < images.length ? images[place + 1] : null;
  useKeys({
    ArrowLeft: () => previous !== null && openImage(previous),
    ArrowRight: () => next !== null && openImage(next),
    Escape: () => openImage(null),
  });
  const shapes = useShapes(scene, image);
  const [pointed, setPointed] = useState(/** @type {Shape | null} */ (null));
  const [article, room] = useRoom();
  useLayoutEffect(() => setPointed(null), [shapes]);
  useEffect(() => takeLostFocus(article.current), []);
  const pointAt = (/** @type {number} */ x, /** @type {number} */ y) => setPointed(shapeAt(shapes, x, y));

  return html`<article class="images-large" ref=${article} tabindex="-1" aria-label=${isolated(String(table.images[image].id))}>
    <header>
      <button type="button" class="small" onClick=${() => openImage(null)} title="Back to the gallery (Escape)">Gallery</button>
      <button type="button" class="small" disabled=${previous === null} title="Previous image (left arrow key)" aria-label="Previous image"
        onClick=${() => previous !== null && openImage(previous)}>←</button>
      <button type="button" class="small" disabled=${next === null} title="Next image (right arrow key)" aria-label="Next image"
        onClick=${() => next !== null && openImage(next)}>→</button>
      <h2><${Name} of=${table.images[image].id} /></h2>
      <span class="images-place">${place < 0 ? "" : `${count(place + 1)} of ${count(images.length)}`}</span>
    </header>
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
 * How many there are of each outcome, and how they look.
 *
 * @param {{shapes: Shape[]}} props
 */
function Legend({ shapes }) {
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
function ShapeList({ scene, shapes, pointed, setPointed }) {
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
        const atStep = step === state.step ? table : await source.objects(String(state.run), step, state.type);
        if (!isCurrent) return;
        const shapes = shapesAtStep(atStep, table.images[image].id, choice);
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

// ---- Pictures -------------------------------------------------------------------------------------------------------

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
function Picture({ scene, image, shapes, focus, room, isLabeled, pointAt }) {
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
function useShapes({ table, judged, choice, focus }, image) {
  return useMemo(() => shapesInImage(table, judged, image, choice.iou, focus), [table, judged, image, choice.iou, focus]);
}

// ---- What is in view ------------------------------------------------------------------------------------------------

/**
 * Which items of a long list are visible, and how high what comes before and after them is.
 *
 * @param {{current: HTMLElement | null}} scroller
 * @param {number} num
 * @param {(width: number) => {height: number, perRow: number}} sizeOfRow by the width of the scroller
 */
function useVisible(scroller, num, sizeOfRow) {
  const [view, setView] = useState({ top: 0, height: 0, width: 0 });
  useLayoutEffect(() => {
    const element = scroller.current;
    if (!element) return;
    const look = () =>
      setView({ top: element.scrollTop, height: element.clientHeight, width: contentWidth(element) });
    look();
    const observer = new ResizeObserver(look);
    observer.observe(element);
    element.addEventListener("scroll", look, { passive: true });
    return () => {
      observer.disconnect();
      element.removeEventListener("scroll", look);
    };
  }, [scroller]);
  const { height, perRow } = sizeOfRow(view.width);
  const rows = Math.ceil(num / perRow);
  const numVisible = Math.ceil(view.height / height) + 1;
  const first = Math.max(Math.min(Math.floor(view.top / height), rows - numVisible), 0);
  const last = Math.min(first + numVisible, rows);
  return {
    first: first * perRow,
    last: Math.min(last * perRow, num),
    before: first * height,
    after: (rows - last) * height,
  };
}

/**
 * How large a picture may be, so that all of it is seen at once.
 *
 * @returns {[{current: HTMLElement | null}, {width: number, height: number}]} a reference for what the picture is in
 */
function useRoom() {
  const element = useRef(/** @type {HTMLElement | null} */ (null));
  const [room, setRoom] = useState({ width: 0, height: 0 });
  useLayoutEffect(() => {
    const current = element.current;
    if (!current) return;
    const look = () =>
      setRoom({
        width: contentWidth(current),
        height: Math.max(Math.min(current.clientHeight, globalThis.innerHeight) - HEIGHT_AROUND, LEAST_HEIGHT),
      });
    look();
    const observer = new ResizeObserver(look);
    observer.observe(current);
    return () => observer.disconnect();
  }, []);
  return [element, room];
}

/** @param {HTMLElement} element */
function contentWidth(element) {
  const { paddingLeft, paddingRight } = getComputedStyle(element);
  return element.clientWidth - Number.parseFloat(paddingLeft) - Number.parseFloat(paddingRight);
}

/**
 * Focuses an element if what had the focus is not there any more.
 *
 * @param {HTMLElement | null} element
 */
function takeLostFocus(element) {
  if (document.activeElement === document.body) element?.focus({ preventScroll: true });
}

/**
 * Calls what belongs to a key, unless the key means something else where it is pressed.
 *
 * @param {Record<string, () => void>} actions
 */
function useKeys(actions) {
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

/**
 * @param {string} name
 * @param {string} title
 * @param {string} about
 * @param {ArrayLike<number>} values
 * @param {(value: number) => string} format
 * @param {number} width
 * @param {boolean} isWorstHigh
 * @returns {Column}
 */
function column(name, title, about, values, format, width, isWorstHigh) {
  return { name, title, about, values, format, width, isWorstHigh };
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

/**
 * Images by a column. Those without a value come last; of equal ones those with more errors come first.
 *
 * @param {number[]} images
 * @param {Column[]} columns
 * @param {Order} order
 */
export function inOrder(images, columns, { column, isDescending }) {
  const valuesOf = (/** @type {string} */ name) =>
    /** @type {Column} */ (columns.find((other) => other.name === name)).values;
  const [values, fp, fn] = [column, "fp", "fn"].map(valuesOf);
  const sign = isDescending ? -1 : 1;
  return images.slice().sort((a, b) => {
    const [hasNoneA, hasNoneB] = [Number.isNaN(values[a]), Number.isNaN(values[b])];
    if (hasNoneA || hasNoneB) return Number(hasNoneA) - Number(hasNoneB) || a - b;
    return sign * (values[a] - values[b]) || fp[b] + fn[b] - fp[a] - fn[a] || a - b;
  });
}

/** @param {Shape[]} shapes */
function countsInWords(shapes) {
  const numOf = (/** @type {string} */ outcome) => shapes.filter((shape) => shape.outcome === outcome).length;
  return `${numOf("right")} right, ${numOf("wrong")} wrong, ${numOf("missed")} missed`;
}

/** @param {Shape[]} shapes */
function descriptionOf(shapes) {
  const errors = shapes.filter(({ outcome }) => outcome === "wrong" || outcome === "missed");
  return [countsInWords(shapes), ...errors.slice(0, 10).map((shape) => labelText(shape))].join("; ");
}

/** @param {Shape} shape */
function focusOn(shape) {
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

/**
 * @param {number} num
 * @param {string} noun
 */
function plural(num, noun) {
  return `${count(num)} ${noun}${num === 1 ? "" : "s"}`;
}
