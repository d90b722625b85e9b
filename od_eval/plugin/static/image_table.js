/** A table of images to sort, of which the visible rows are drawn. */

import { Name, isolated } from "./format.js";
import { useVisible } from "./gallery.js";
import { html, useLayoutEffect, useRef } from "./vendor/preact.js";

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
 *
 * @typedef {{column: string, isDescending: boolean}} Order
 */

// In pixels, as in images.css: rows that are not visible are not drawn, so their height must be known.
const ROW_HEIGHT = 28;
const LEAST_WIDTH_OF_NAMES = 120;

/**
 * @param {object} props
 * @param {{id: string | number}[]} props.all the images that an index means
 * @param {Column[]} props.columns
 * @param {number[]} props.images
 * @param {Order} props.order
 * @param {(order: Order) => void} props.setOrder
 * @param {number | null} props.open
 * @param {(image: number) => void} props.openImage
 */
export function ImageTable({ all, columns, images, order, setOrder, open, openImage }) {
  const scroller = useRef(/** @type {HTMLElement | null} */ (null));
  const visible = useVisible(scroller, images.length, () => ({ height: ROW_HEIGHT, perRow: 1 }));
  const leastWidth = columns.reduce((sum, { width }) => sum + width, LEAST_WIDTH_OF_NAMES);
  useLayoutEffect(() => {
    const place = open === null ? -1 : images.indexOf(open);
    if (place >= 0 && scroller.current) showRow(scroller.current, place);
  }, [open, images]);

  return html`<div class="images-table" ref=${scroller} tabindex="0" role="region" aria-label="Table of images">
    <table aria-rowcount=${images.length + 1} style=${{ minWidth: `${leastWidth}px` }}>
      <thead>
        <tr aria-rowindex="1">
          <th scope="col" class="images-name">Image</th>
          ${columns.map((column) => html`<${ColumnHeading} key=${column.name} column=${column} order=${order} setOrder=${setOrder} />`)}
        </tr>
      </thead>
      <tbody>
        ${visible.before > 0 && html`<tr key="before" class="images-unseen" aria-hidden="true" style=${{ height: `${visible.before}px` }}></tr>`}
        ${images.slice(visible.first, visible.last).map(
          (image, index) => html`<tr key=${image} aria-rowindex=${visible.first + index + 2}
            class=${image === open ? "images-open" : ""} onClick=${() => openImage(image)}>
            <th scope="row" class="images-name">
              <button type="button" class="images-link" aria-current=${image === open ? "true" : undefined}
                title=${isolated(String(all[image].id))}><${Name} of=${all[image].id} /></button>
            </th>
            ${columns.map(({ name, values, format }) => html`<td key=${name}>${Number.isNaN(values[image]) ? "–" : format(values[image])}</td>`)}
          </tr>`,
        )}
        ${visible.after > 0 && html`<tr key="after" class="images-unseen" aria-hidden="true" style=${{ height: `${visible.after}px` }}></tr>`}
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

// ---- Columns and order ----------------------------------------------------------------------------------------------

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
export function column(name, title, about, values, format, width, isWorstHigh) {
  return { name, title, about, values, format, width, isWorstHigh };
}

/**
 * The order that stands in the address; if there is none, or of no column, that of the first column.
 *
 * @param {string | null} text
 * @param {Column[]} columns
 * @returns {Order}
 */
export function orderOf(text, columns) {
  const [column, direction] = (text ?? "").split("/");
  if (columns.some(({ name }) => name === column)) return { column, isDescending: direction === "descending" };
  return { column: columns[0].name, isDescending: columns[0].isWorstHigh };
}

/**
 * Images by a column. Those without a value come last; of equal ones those with more errors come first.
 *
 * @param {number[]} images
 * @param {Column[]} columns
 * @param {Order} order
 * @param {(image: number) => number} numErrors
 */
export function inOrder(images, columns, { column, isDescending }, numErrors) {
  const { values } = /** @type {Column} */ (columns.find(({ name }) => name === column));
  const sign = isDescending ? -1 : 1;
  return images.slice().sort((a, b) => {
    const [hasNoneA, hasNoneB] = [Number.isNaN(values[a]), Number.isNaN(values[b])];
    if (hasNoneA || hasNoneB) return Number(hasNoneA) - Number(hasNoneB) || a - b;
    return sign * (values[a] - values[b]) || numErrors(b) - numErrors(a) || a - b;
  });
}
