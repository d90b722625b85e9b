/** A long gallery of images, of which only what is visible is drawn; and the way from one large image to the next. */

import { Name, count } from "./format.js";
import { contentWidth, useKeys } from "./picture_view.js";
import { html, useLayoutEffect, useRef, useState } from "./vendor/preact.js";

/**
 * @param {object} props
 * @param {string} props.className
 * @param {string} props.label
 * @param {number[]} props.images in their order
 * @param {{width: number, height: number}} props.tile the size of a tile, in pixels
 * @param {number | null} props.lastOpen where the gallery begins; null for the first image
 * @param {(image: number) => any} props.drawTile
 */
export function Gallery({ className, label, images, tile, lastOpen, drawTile }) {
  const scroller = useRef(/** @type {HTMLElement | null} */ (null));
  const sizeOfRow = (/** @type {number} */ width) => ({ height: tile.height, perRow: Math.max(1, Math.floor(width / tile.width)) });
  const visible = useVisible(scroller, images.length, sizeOfRow);
  const isMeasured = visible.last > visible.first;
  useLayoutEffect(() => {
    const place = lastOpen === null ? -1 : images.indexOf(lastOpen);
    if (!isMeasured || place < 0 || !scroller.current) return;
    scroller.current.scrollTop = tile.height * Math.floor(place / sizeOfRow(contentWidth(scroller.current)).perRow);
  }, [isMeasured]);
  return html`<div class=${className} ref=${scroller} tabindex="0" role="region" aria-label=${label}>
    ${visible.before > 0 && html`<div class="images-unseen" style=${{ height: `${visible.before}px` }}></div>`}
    <ul>
      ${images.slice(visible.first, visible.last).map(drawTile)}
    </ul>
    ${visible.after > 0 && html`<div class="images-unseen" style=${{ height: `${visible.after}px` }}></div>`}
    ${images.length === 0 && html`<p class="images-empty">No image.</p>`}
  </div>`;
}

/**
 * The heading of one large image, with buttons and keys for the next and the previous one, and back to the gallery.
 *
 * @param {object} props
 * @param {string | number} props.id of the image
 * @param {number} props.image
 * @param {number[]} props.images in their order
 * @param {(image: number | null) => void} props.openImage
 * @param {any} [props.children] what else is said of the image
 */
export function LargeHeading({ id, image, images, openImage, children }) {
  const place = images.indexOf(image);
  const previous = place > 0 ? images[place - 1] : null;
  // An image that is not among those in the gallery is followed by the first of them.
  const next = place + 1 < images.length ? images[place + 1] : null;
  useKeys({
    ArrowLeft: () => previous !== null && openImage(previous),
    ArrowRight: () => next !== null && openImage(next),
    Escape: () => openImage(null),
  });
  return html`<header>
    <button type="button" class="small" onClick=${() => openImage(null)} title="Back to the gallery (Escape)">Gallery</button>
    <button type="button" class="small" disabled=${previous === null} title="Previous image (left arrow key)" aria-label="Previous image"
      onClick=${() => previous !== null && openImage(previous)}>←</button>
    <button type="button" class="small" disabled=${next === null} title="Next image (right arrow key)" aria-label="Next image"
      onClick=${() => next !== null && openImage(next)}>→</button>
    <h2><${Name} of=${id} /></h2>
    ${children}
    <span class="images-place">${place < 0 ? "" : `${count(place + 1)} of ${count(images.length)}`}</span>
  </header>`;
}

/**
 * Which items of a long list are visible, and how high what comes before and after them is.
 *
 * @param {{current: HTMLElement | null}} scroller
 * @param {number} num
 * @param {(width: number) => {height: number, perRow: number}} sizeOfRow by the width of the scroller
 */
export function useVisible(scroller, num, sizeOfRow) {
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
