/**
 * The view "Images" of semantic segmentation: a table of images to sort, a gallery, and one image large, with what is
 * there, what is predicted, or what is wrong on it.
 *
 * With a class or a cell of the matrix, only images with such pixels are there, and these stand out.
 */

import { Name, count, isolated, number, percent, plural, printable } from "./format.js";
import { Gallery, LargeHeading } from "./gallery.js";
import { ImageTable, column, inOrder, orderOf } from "./image_table.js";
import { COLORS, drawPixels } from "./pixel_picture.js";
import { takeLostFocus, useKeys, useRoom } from "./picture_view.js";
import { IGNORED, LAYERS, chosenPixels, classesOfImage, hasClass, partsOfImages, pixelAt } from "./segmentation.js";
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "./vendor/preact.js";

/**
 * @typedef {import("./app.js").PixelViewProps} PixelViewProps
 * @typedef {import("./image_table.js").Order} Order
 * @typedef {import("./segmentation.js").Labels} Labels
 * @typedef {import("./segmentation.js").Layer} Layer
 * @typedef {import("./segmentation.js").Pixels} Pixels
 * @typedef {import("./segmentation.js").Segmentation} Segmentation
 * @typedef {import("./source.js").Source} Source
 * @typedef {import("./state.js").State} State
 *
 * @typedef {object} Scene What pictures are drawn from.
 * @property {Segmentation} segmentation
 * @property {Pixels | null} pixels
 * @property {Source} source
 * @property {State} state
 */

// In pixels, as in images.css.
const TILE = { width: 208, height: 196 };
const TILE_PICTURE = { width: 196, height: 156 };
const MOST_ENLARGED = 8;
// Around a large picture: its legend belongs to it.
const HEIGHT_AROUND = 290;
// Of a picture until it is there.
const USUAL_SIZE = { width: 4, height: 3 };
const NAMES_OF_LAYERS = /** @type {Layer[]} */ (Object.keys(LAYERS));

/** @param {PixelViewProps} props */
export function PixelImages({ segmentation, state, setState, source }) {
  const { cell, category } = state;
  const pixels = useMemo(() => chosenPixels(segmentation, cell, category), [segmentation, cell, category]);
  const parts = useMemo(() => pixels && partsOfImages(segmentation, pixels), [segmentation, pixels]);
  const columns = useMemo(() => columnsOf(segmentation, parts), [segmentation, parts]);
  const order = orderOf(state.order, columns);
  const setOrder = (/** @type {Order} */ { column, isDescending }) =>
    setState({ order: `${column}/${isDescending ? "descending" : "ascending"}` });
  const images = useMemo(() => {
    const { images: all } = segmentation;
    const isShown = (/** @type {number} */ image) =>
      !parts || parts[image] > 0 || (cell === null && category !== null && hasClass(all[image], category));
    return inOrder([...all.keys()].filter(isShown), columns, order, (image) => all[image].wrong);
  }, [segmentation, columns, parts, order.column, order.isDescending]);
  const open = state.image;
  const lastOpen = useRef(/** @type {number | null} */ (null));
  lastOpen.current = open ?? lastOpen.current;
  const openImage = (/** @type {number | null} */ image) => setState({ image });
  const scene = { segmentation, pixels, source, state };
  useKeys(Object.fromEntries(NAMES_OF_LAYERS.map((layer, at) => [String(at + 1), () => setState({ layer })])));

  return html`<section class="images" aria-label="Images">
    <div class="pixels-above">
      <${Heading} ...${{ segmentation, pixels, num: images.length, setState }} />
      <${Layers} layer=${state.layer} setState=${setState} />
    </div>
    <div class="images-columns">
      <${ImageTable} all=${segmentation.images} ...${{ columns, images, order, setOrder, open, openImage }} />
      ${open === null
        ? html`<${Gallery} className="images-gallery" label="Gallery" images=${images} tile=${TILE} lastOpen=${lastOpen.current}
            drawTile=${(/** @type {number} */ image) => html`<${Tile} key=${image} scene=${scene} image=${image}
              openImage=${openImage} isLastOpen=${image === lastOpen.current} />`} />`
        : html`<${LargeImage} key=${open} image=${open} ...${{ scene, images, openImage, setState }} />`}
    </div>
  </section>`;
}

/**
 * @param {{segmentation: Segmentation, pixels: Pixels | null, num: number, setState: (change: Partial<State>) => void}} props
 */
function Heading({ segmentation, pixels, num, setState }) {
  const numAll = segmentation.images.length;
  const numKnown = segmentation.images.filter(({ confusions }) => confusions).length;
  if (!pixels) return html`<p class="images-heading">${plural(num, "image")}</p>`;
  return html`<p class="images-heading">
    <strong>${pixels.title}</strong>: ${plural(num, "image")}${numKnown < numAll && ` of the ${count(numKnown)} whose pixels are kept`}
    ${" "}<button type="button" class="small" onClick=${() => setState({ cell: null, category: null, image: null })}>Show all images</button>
  </p>`;
}

/**
 * What is drawn on the pictures.
 * @param {{layer: Layer, setState: (change: Partial<State>) => void}} props
 */
const Layers = ({ layer, setState }) => html`<fieldset class="layers">
  <legend>Show</legend>
  ${NAMES_OF_LAYERS.map(
    (name, at) => html`<label title=${`key ${at + 1}`}>
      <input type="radio" name="layer" value=${name} checked=${name === layer} onChange=${() => setState({ layer: name })} />
      ${LAYERS[name]}
    </label>`,
  )}
</fieldset>`;

/**
 * @param {Segmentation} segmentation
 * @param {number[] | null} parts of each image, that is chosen
 */
function columnsOf({ classes, images }, parts) {
  const values = (/** @type {"pixel_accuracy" | "IoU" | "worst_class"} */ name) =>
    images.map((image) => image[name] ?? NaN);
  const columns = [
    column("accuracy", "Accuracy", "Part of the pixels that is right", values("pixel_accuracy"), number, 84, false),
    column("iou", "IoU", "Mean IoU of the classes in the image", values("IoU"), number, 64, false),
    column("wrong", "Wrong", "Wrong pixels of the image", images.map(({ wrong }) => wrong), count, 84, true),
    column(
      "worst", "Worst class", "The class with the most wrong pixels", values("worst_class"),
      (category) => isolated(classes[category].name), 130, false,
    ),
  ];
  if (!parts) return columns;
  const about = "Part of the pixels that was chosen, in the picture, which is smaller than the image";
  return [column("chosen", "Here", about, parts, percent, 64, true), ...columns];
}

// ---- Pictures -------------------------------------------------------------------------------------------------------

/**
 * An image with what is drawn on it, as large as there is room.
 *
 * @param {object} props
 * @param {Scene} props.scene
 * @param {number} props.image
 * @param {Loaded} props.loaded
 * @param {{width: number, height: number}} props.room
 * @param {(x: number, y: number) => void} [props.pointAt] called with a point, from 0 to 1
 * @param {() => void} [props.leave]
 */
function Picture({ scene, image, loaded, room, pointAt, leave }) {
  const { segmentation, pixels, state } = scene;
  const canvas = useRef(/** @type {HTMLCanvasElement | null} */ (null));
  const { picture, labels } = loaded;
  const size = labels ?? USUAL_SIZE;
  const enlarged = Math.min(room.width / size.width, room.height / size.height, labels ? MOST_ENLARGED : Infinity);
  const [width, height] = [size.width, size.height].map((side) => Math.max(1, Math.floor(side * enlarged)));
  useLayoutEffect(() => {
    const { classes } = segmentation;
    if (canvas.current) drawPixels(canvas.current, { picture, labels, classes, layer: state.layer, pixels, width, height });
  }, [picture, labels, segmentation, state.layer, pixels, width, height]);
  const { pixel_accuracy, worst_class } = segmentation.images[image];
  const worst = worst_class === null ? "" : `, most wrong pixels: ${isolated(segmentation.classes[worst_class].name)}`;
  return html`<canvas
    ref=${canvas}
    role="img"
    aria-label=${`${LAYERS[state.layer]}; accuracy ${number(pixel_accuracy)}${worst}`}
    onPointerMove=${(/** @type {PointerEvent} */ event) => pointAt?.(event.offsetX / width, event.offsetY / height)}
    onPointerLeave=${() => leave?.()}
  ></canvas>`;
}

/**
 * @typedef {{picture: HTMLImageElement | null, labels: Labels | null, problem: string | null}} Loaded
 *
 * The picture of an image and the labels of its pixels, once they are there.
 * @param {Scene} scene
 * @param {number} image
 * @returns {Loaded}
 */
function useLoaded({ segmentation, source, state }, image) {
  const [loaded, setLoaded] = useState(/** @type {Loaded} */ ({ picture: null, labels: null, problem: null }));
  const [run, step, hasPicture] = [String(state.run), Number(state.step), segmentation.images[image].has_picture];
  useEffect(() => {
    if (!hasPicture) return undefined;
    let isCurrent = true;
    const load = async () => {
      const picture = new Image();
      picture.src = await source.segmentationImageUrl(run, step, image);
      const [labels] = await Promise.all([source.labels(run, step, image), picture.decode()]);
      if (isCurrent) setLoaded({ picture, labels, problem: null });
    };
    load().catch((error) => isCurrent && setLoaded({ picture: null, labels: null, problem: error.message }));
    return () => {
      isCurrent = false;
    };
  }, [source, run, step, image, hasPicture]);
  return loaded;
}

/**
 * @param {{scene: Scene, image: number, openImage: (image: number) => void, isLastOpen: boolean}} props
 */
function Tile({ scene, image, openImage, isLastOpen }) {
  const button = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    if (isLastOpen) takeLostFocus(button.current);
  }, []);
  const { id, pixel_accuracy } = scene.segmentation.images[image];
  const loaded = useLoaded(scene, image);
  return html`<li>
    <button type="button" class="images-tile" ref=${button} title=${isolated(id)} onClick=${() => openImage(image)}>
      <${Picture} scene=${scene} image=${image} loaded=${loaded} room=${TILE_PICTURE} />
      <span class="images-caption">${number(pixel_accuracy)} <${Name} of=${id} /></span>
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
 * @param {(change: Partial<State>) => void} props.setState
 */
function LargeImage({ scene, image, images, openImage, setState }) {
  const { segmentation } = scene;
  const of = segmentation.images[image];
  const loaded = useLoaded(scene, image);
  const [pointed, setPointed] = useState(/** @type {ReturnType<typeof pixelAt>} */ (null));
  const [article, room] = useRoom(HEIGHT_AROUND);
  useEffect(() => takeLostFocus(article.current), []);
  const { labels, problem } = loaded;
  const pointAt = (/** @type {number} */ x, /** @type {number} */ y) => setPointed(labels && pixelAt(labels, x, y));
  const named = (/** @type {number} */ category) => html`<${ClassColor} of=${segmentation.classes[category]} /><${Name}
      of=${segmentation.classes[category].name} />`;
  return html`<article class="images-large" ref=${article} tabindex="-1" aria-label=${isolated(of.id)}>
    <${LargeHeading} ...${{ id: of.id, image, images, openImage }} />
    <div class="images-stage">
      ${room.width > 0 &&
      html`<${Picture} ...${{ scene, image, loaded, room, pointAt }} leave=${() => setPointed(null)} />`}
      ${!of.has_picture && html`<p>No picture of this image was kept.</p>`}
      ${problem && html`<p role="alert">The picture cannot be shown: ${printable(problem)}</p>`}
    </div>
    <p class="pixels-said">
      ${pointed
        ? html`there: ${named(pointed.actual)}, predicted: ${named(pointed.predicted)}`
        : `${count(of.wrong)} of ${plural(of.pixels, "pixel")} wrong, accuracy ${number(of.pixel_accuracy)}, mean IoU ${number(of.IoU)}`}
    </p>
    <${Legend} ...${{ scene, image, labels, setState }} />
  </article>`;
}

/** @param {{of: {color: string}}} props */
const ClassColor = ({ of }) => html`<i class="class-color" style=${{ background: of.color }}></i>`;

/**
 * What the colors mean, and how much of the picture each class has. A click on a class shows only it.
 * @param {{scene: Scene, image: number, labels: Labels | null, setState: (change: Partial<State>) => void}} props
 */
function Legend({ scene, image, labels, setState }) {
  const { segmentation, pixels, state } = scene;
  const classes = useMemo(() => classesOfImage(segmentation.images[image]), [segmentation, image]);
  const isOnly = (/** @type {number} */ category) => state.category === category && state.cell === null;
  const toggle = (/** @type {number} */ category) => setState({ cell: null, category: isOnly(category) ? null : category });
  const color = (/** @type {keyof typeof COLORS} */ name) => ({ background: `rgb(${COLORS[name].slice(0, 3).join(" ")})` });
  return html`
    <ul class="images-legend" aria-label="Colors">
      ${state.layer === "wrong" &&
      html`<li><i class="class-color" style=${color("wrong")}></i> wrong${pixels && ", as chosen"}</li>
        <li><i class="class-color" style=${color("right")}></i> ${pixels ? "others" : "right"}</li>`}
      ${state.layer !== "image" && labels?.groundtruth.includes(IGNORED) && html`<li><i class="class-color class-ignored"></i> ignored</li>`}
    </ul>
    ${classes.length > 0 &&
    html`<div class="scrolls">
      <table class="numbers" aria-label="Classes in this picture">
        <thead>
          <tr><th scope="col">Class</th><th scope="col">There</th><th scope="col">Predicted</th><th scope="col">IoU</th></tr>
        </thead>
        <tbody>
          ${classes.map(
            ({ category, actual, predicted, iou }) => html`<tr key=${category}>
              <th scope="row">
                <button type="button" class="link" aria-pressed=${String(isOnly(category))} onClick=${() => toggle(category)}>
                  <${ClassColor} of=${segmentation.classes[category]} /><${Name} of=${segmentation.classes[category].name} />
                </button>
              </th>
              <td>${percent(actual)}</td><td>${percent(predicted)}</td><td>${number(iou)}</td>
            </tr>`,
          )}
        </tbody>
      </table>
    </div>`}
  `;
}
