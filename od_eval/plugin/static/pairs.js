/** Images of two evaluations in pairs, A beside B: a gallery, and one pair large. Part of the view "Compare". */

import { focusOf, numPerImage, picked } from "./changes.js";
import { Name, count, isolated, plural } from "./format.js";
import { Gallery, LargeHeading } from "./gallery.js";
import { Legend, Picture, ShapeList, focusOn, takeLostFocus, useRoom, useShapes } from "./picture_view.js";
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "./vendor/preact.js";

/**
 * @typedef {import("./changes.js").Change} Change
 * @typedef {import("./changes.js").Changes} Changes
 * @typedef {import("./changes.js").Picked} Picked
 * @typedef {import("./changes.js").Same} Same
 * @typedef {import("./picture.js").Shape} Shape
 * @typedef {import("./picture_view.js").Scene} Scene
 * @typedef {import("./source.js").Chosen} Chosen
 * @typedef {import("./source.js").Source} Source
 * @typedef {import("./state.js").State} State
 * @typedef {import("./table.js").Choice} Choice
 * @typedef {import("./table.js").Judged} Judged
 * @typedef {import("./table.js").ObjectTable} ObjectTable
 *
 * @typedef {object} Side One of the two evaluations.
 * @property {ObjectTable} table
 * @property {Choice} choice
 * @property {Judged} judged
 *
 * @typedef {object} Filter What the images are of.
 * @property {string} name as it stands in the address
 * @property {string} title in words
 * @property {Picked} rows
 */

// In pixels, as in compare.css: tiles that are not visible are not drawn, so their sizes must be known.
const TILE = { width: 328, height: 216 };
const TILE_PICTURE = { width: 154, height: 154 };

/**
 * The images with what is picked, most of it first: a gallery, or one pair large.
 * @param {object} props
 * @param {Side | null} props.sideA null if there is nothing to compare with: then images are those of B
 * @param {Side} props.sideB
 * @param {Same | null} props.same
 * @param {Changes | null} props.found
 * @param {Filter} props.filter
 * @param {Source} props.source
 * @param {State} props.state
 * @param {Chosen | null} props.a
 * @param {number | null} props.open the image of B that is shown large
 * @param {(change: Partial<State>) => void} props.setState
 */
export function Pairs({ sideA, sideB, same, found, filter, source, state, a, open, setState }) {
  const { rows } = filter;
  const nums = useMemo(() => numPerImage(sideA?.table ?? null, sideB.table, same, rows), [sideA, sideB, same, rows]);
  const images = useMemo(
    () => Array.from(nums.keys()).filter((image) => nums[image]).sort((one, two) => nums[two] - nums[one] || one - two),
    [nums],
  );
  const counts = useMemo(() => changesPerImage(sideA, sideB, same, found), [sideA, sideB, same, found]);
  const scenes = useMemo(() => {
    const scene = (/** @type {Side} */ { table, choice, judged }, /** @type {number[]} */ objects, /** @type {number[]} */ detections, /** @type {Partial<State>} */ of) => ({
      ...{ table, judged, choice, source, state: { ...state, ...of }, evaluations: [] },
      focus: focusOf(table, judged, choice.iou, objects, detections),
    });
    const objectsOfA = rows.objects.map((row) => same?.objectOf[row] ?? -1).filter((row) => row >= 0);
    return {
      a: sideA && scene(sideA, objectsOfA, rows.detectionsOfA, { run: a?.run ?? null, step: a?.step ?? null }),
      b: scene(sideB, rows.objects, rows.detectionsOfB, {}),
    };
  }, [sideA, sideB, same, rows, source, state.run, state.step, a?.run, a?.step]);
  const lastOpen = useRef(/** @type {number | null} */ (null));
  lastOpen.current = open ?? lastOpen.current;
  const openImage = (/** @type {number | null} */ image) => setState({ image });
  const of = { scenes, same, counts, nums, filter, images, openImage };
  return html`<section class="compare-images" aria-label="Images">
    <p class="compare-heading" role="status">
      <strong>${filter.title}</strong>: ${plural(images.length, "image")}
      ${filter.name && html` <button type="button" class="small" onClick=${() => setState({ cell: null, image: null })}>Show all changes</button>`}
    </p>
    ${open === null
      ? html`<${Gallery} className="compare-gallery" label="Gallery of pairs" images=${images} tile=${TILE} lastOpen=${lastOpen.current}
          drawTile=${(/** @type {number} */ image) => html`<${Tile} key=${image} ...${of} image=${image}
            isLastOpen=${image === lastOpen.current} />`} />`
      : html`<${LargePair} ...${of} image=${open} />`}
  </section>`;
}

/**
 * What changed in each image, in words.
 * @param {Side | null} sideA
 * @param {Side} sideB
 * @param {Same | null} same
 * @param {Changes | null} found
 * @returns {(image: number) => string} "" if nothing did
 */
function changesPerImage(sideA, sideB, same, found) {
  if (!sideA || !found) return () => "";
  const numsOf = (/** @type {Change} */ change) => numPerImage(sideA.table, sideB.table, same, picked(found, change));
  const parts = /** @type {const} */ ([
    ["fixed", "fixed #"],
    ["broke", "broke #"],
    ["fp_came", "# new FP"],
    ["fp_went", "# FP gone"],
  ]).map(([change, text]) => ({ nums: numsOf(change), text }));
  return (image) =>
    parts
      .filter(({ nums }) => nums[image])
      .map(({ nums, text }) => text.replace("#", count(nums[image])))
      .join(", ");
}

/**
 * @typedef {object} PairProps
 * @property {{a: Scene | null, b: Scene}} scenes
 * @property {Same | null} same
 * @property {(image: number) => string} counts what changed in an image of B
 * @property {Uint32Array} nums how much is picked in each image of B
 * @property {Filter} filter
 * @property {number[]} images of B, in their order
 * @property {(image: number | null) => void} openImage
 */

/** @param {PairProps & {image: number, isLastOpen: boolean}} props */
function Tile({ scenes, same, counts, nums, filter, image, openImage, isLastOpen }) {
  const button = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    if (isLastOpen) takeLostFocus(button.current);
  }, []);
  const { id } = scenes.b.table.images[image];
  const text = captionOf(filter, counts(image), nums[image]);
  return html`<li>
    <button type="button" class="compare-tile" ref=${button} title=${isolated(String(id))} onClick=${() => openImage(image)}>
      <span class="compare-pictures">
        ${scenes.a && html`<${PictureOfSide} ...${{ scenes, same, image, letter: "A", room: TILE_PICTURE, isLabeled: false }} />`}
        <${PictureOfSide} ...${{ scenes, same, image, letter: "B", room: TILE_PICTURE, isLabeled: false }} />
      </span>
      <span class="compare-caption"><${Name} of=${id} /></span>
      <span class="compare-caption">${text}</span>
    </button>
  </li>`;
}

/**
 * @param {Filter} filter
 * @param {string} changed what changed in an image
 * @param {number} num how much is picked in it
 */
function captionOf({ name, title }, changed, num) {
  const isOther = /^history\/|\/both$|\/neither$/.test(name);
  return isOther ? `${title.toLowerCase()}: ${count(num)}` : changed;
}

/**
 * The picture of an image in A or B.
 * @param {object} props
 * @param {{a: Scene | null, b: Scene}} props.scenes
 * @param {Same | null} props.same
 * @param {number} props.image of B
 * @param {"A" | "B"} props.letter
 * @param {{width: number, height: number}} props.room
 * @param {boolean} props.isLabeled
 */
function PictureOfSide({ scenes, same, image, letter, room, isLabeled }) {
  const { scene, imageOfSide } = sideOf(scenes, same, image, letter);
  const shapes = useShapes(scene, imageOfSide);
  return html`<${PictureOfShapes} ...${{ scenes, same, image, letter, shapes, focus: scene.focus, room, isLabeled }} />`;
}

/**
 * @param {object} props
 * @param {{a: Scene | null, b: Scene}} props.scenes
 * @param {Same | null} props.same
 * @param {number} props.image of B
 * @param {"A" | "B"} props.letter
 * @param {Shape[]} props.shapes
 * @param {import("./picture.js").Focus | null} props.focus
 * @param {{width: number, height: number}} props.room
 * @param {boolean} props.isLabeled
 */
function PictureOfShapes({ scenes, same, image, letter, shapes, focus, room, isLabeled }) {
  const { scene, imageOfSide } = sideOf(scenes, same, image, letter);
  if (imageOfSide < 0) return html`<span class="compare-picture">not in A</span>`;
  // A report has the picture of an image in one run, and not in the other.
  const other = sideOf(scenes, same, image, letter === "A" ? "B" : "A");
  const isOfOther = !scene.table.images[imageOfSide].has_picture && other.scene.table.images[other.imageOfSide]?.has_picture;
  const [from, at] = isOfOther ? [other.scene, other.imageOfSide] : [scene, imageOfSide];
  return html`<span class="compare-picture">
    <span class="compare-letter">${letter}</span>
    <${Picture} ...${{ scene: from, image: at, shapes, focus, room, isLabeled }} />
  </span>`;
}

/**
 * @param {{a: Scene | null, b: Scene}} scenes
 * @param {Same | null} same
 * @param {number} image of B
 * @param {"A" | "B"} letter
 */
function sideOf(scenes, same, image, letter) {
  if (letter === "B" || !scenes.a || !same) return { scene: scenes.b, imageOfSide: image };
  return { scene: scenes.a, imageOfSide: same.imageOf[image] };
}

/** @param {PairProps & {image: number}} props */
function LargePair({ scenes, same, counts, nums, filter, images, image, openImage }) {
  const [article, room] = useRoom();
  useEffect(() => takeLostFocus(article.current), []);
  const { id } = scenes.b.table.images[image];
  const roomOfSide = { width: scenes.a ? (room.width - 16) / 2 : room.width, height: room.height };
  return html`<article class="images-large" ref=${article} tabindex="-1" aria-label=${isolated(String(id))}>
    <${LargeHeading} ...${{ id, image, images, openImage }}><span>${captionOf(filter, counts(image), nums[image])}</span><//>
    <div class="compare-large">
      ${scenes.a && html`<${LargeSide} key="A" ...${{ scenes, same, image, letter: "A", room: roomOfSide }} />`}
      <${LargeSide} key="B" ...${{ scenes, same, image, letter: "B", room: roomOfSide }} />
    </div>
  </article>`;
}

/**
 * @param {object} props
 * @param {{a: Scene | null, b: Scene}} props.scenes
 * @param {Same | null} props.same
 * @param {number} props.image of B
 * @param {"A" | "B"} props.letter
 * @param {{width: number, height: number}} props.room
 */
function LargeSide({ scenes, same, image, letter, room }) {
  const { scene, imageOfSide } = sideOf(scenes, same, image, letter);
  const shapes = useShapes(scene, imageOfSide);
  const [pointed, setPointed] = useState(/** @type {Shape | null} */ (null));
  useLayoutEffect(() => setPointed(null), [shapes]);
  const focus = pointed ? focusOn(pointed) : scene.focus;
  return html`<section aria-label=${letter}>
    <div class="images-stage">
      ${room.width > 0 && html`<${PictureOfShapes} ...${{ scenes, same, image, letter, shapes, focus, room, isLabeled: true }} />`}
    </div>
    <${Legend} shapes=${shapes} />
    <${ShapeList} scene=${scene} shapes=${shapes} pointed=${pointed} setPointed=${setPointed} />
  </section>`;
}
