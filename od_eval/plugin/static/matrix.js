/**
 * The view "Matrix": which categories are taken for which, what is missed, and what is found where nothing is; or which
 * classes of pixels. A cell opens its images.
 */

import { indexByKey } from "./chart.js";
import { Name, compact, count, percent, printable } from "./format.js";
import { titleOfPixels } from "./segmentation.js";
import { nameOfCell, quoted, titleOfCell } from "./selection.js";
import { confusion } from "./table.js";
import { html, useMemo, useRef, useState } from "./vendor/preact.js";

/**
 * @typedef {import("./table.js").ObjectTable} ObjectTable
 * @typedef {import("./table.js").Choice} Choice
 * @typedef {{actual: number, predicted: number}} Cell indices of categories, or of background, which is the last
 * @typedef {NonNullable<import("./state.js").State["rates"]>} Shown
 *
 * @typedef {object} Rates
 * @property {string[]} labels names of the categories, and of background
 * @property {number} background its index; -1 if there is none, as of pixels, each of which is predicted as something
 * @property {Words} words what is counted
 * @property {(cell: Cell) => string} title of a cell
 * @property {(cell: Cell) => number} count
 * @property {(actual: number) => number} objects how many objects a category has; of background, false alarms
 * @property {(predicted: number) => number} detections how many detections it has; of background, missed objects
 * @property {(cell: Cell) => number} highestScore of the detections of a cell; 0 of pixels
 */

/** The matrix of more categories is noise: it is of chosen ones, at first of those that are confused most. */
const MOST_CATEGORIES = 20;
const NUM_CHOSEN = 12;
const NUM_PAIRS = 15;
/**
 * @typedef {object} Words
 * @property {[string, string]} parts what cells can be parts of, in rows and in columns
 * @property {[string, string, string]} columns headings of the list of pairs: a number, and its part of the two
 * @property {string} hint
 * @property {string} none there are no pairs
 * @property {(name: string) => string} inRow what a row has
 * @property {(name: string) => string} inColumn
 * @property {(num: number) => string} format of a number in a cell
 */

/** @type {Words} */
const OBJECTS = {
  parts: ["the objects of a row", "the detections of a column"],
  columns: ["Number", "Of objects", "Of detections"],
  hint:
    "Rows: what is there. Columns: what is predicted. Blue: right. Orange: wrong. Yellow: missed. " +
    "A click opens the images.",
  none: "No object is taken for one of another category.",
  inRow: (name) => `objects ${quoted(name)}`,
  inColumn: (name) => `detections ${quoted(name)}`,
  format: count,
};
/** @type {Words} */
const PIXELS = {
  parts: ["what is there (rows)", "what is predicted (columns)"],
  columns: ["Pixels", "Of what is there", "Of what is predicted"],
  hint: "Rows: what is there. Columns: what is predicted. Blue: right. Orange: wrong. A click opens the images.",
  none: "No pixel is taken for one of another class.",
  inRow: (name) => `pixels of ${quoted(name)}`,
  inColumn: (name) => `pixels predicted as ${quoted(name)}`,
  format: compact,
};
/** In pixels: the least and the most of a cell, and what all together may have. */
const WIDTHS = { cell: [42, 84], all: 480 };

/**
 * Of objects.
 * @param {import("./app.js").ViewProps} props
 */
export function Matrix({ table, choice, state, setState }) {
  const rates = useMemo(() => ratesOf(table, choice), [table, choice]);
  return html`<${Confusions} ...${{ rates, state, setState }} />`;
}

/**
 * Of pixels.
 * @param {import("./app.js").PixelViewProps} props
 */
export function PixelMatrix({ segmentation, state, setState }) {
  const rates = useMemo(() => ratesOfPixels(segmentation), [segmentation]);
  return html`<${Confusions} ...${{ rates, state, setState }} />`;
}

/**
 * @param {{rates: Rates, state: import("./state.js").State,
 *   setState: (change: Partial<import("./state.js").State>) => void}} props
 */
function Confusions({ rates, state, setState }) {
  const pairs = useMemo(() => confusedPairs(rates), [rates]);
  // Numbers of pixels say little.
  const shown = state.rates ?? (rates.background < 0 ? "rows" : "numbers");
  const hasDiagonal = !state.errors_only;
  const names = rates.labels.filter((_, at) => at !== rates.background);
  const isLarge = names.length > MOST_CATEGORIES;
  const categories = isLarge
    ? [...(chosenIn(state.categories, names.length) ?? mostConfused(pairs))].sort((a, b) => a - b)
    : names.map((_, at) => at);
  const setChosen = (/** @type {Set<number>} */ chosen) => setState({ categories: [...chosen].join(",") });
  const open = (/** @type {Cell} */ cell) =>
    setState({ view: "images", cell: nameOfCell(cell.actual, cell.predicted), image: null });

  const list = html`<${Pairs} rates=${rates} pairs=${pairs} open=${open} />`;
  const matrix = html`
    <section class="panel">
      <h2>Confusion matrix</h2>
      <p class="matrix-options">
        <label>
          Cells show
          <select value=${shown} onChange=${(/** @type {any} */ event) => setState({ rates: event.currentTarget.value })}>
            <option value="numbers">numbers</option>
            <option value="rows">parts of ${rates.words.parts[0]}</option>
            <option value="columns">parts of ${rates.words.parts[1]}</option>
          </select>
        </label>
        <label>
          <input
            type="checkbox"
            checked=${!hasDiagonal}
            onChange=${(/** @type {any} */ event) => setState({ errors_only: event.currentTarget.checked })}
          />
          Errors only
        </label>
      </p>
      ${isLarge ? html`<${Chooser} names=${names} chosen=${new Set(categories)} setChosen=${setChosen} />` : null}
      <${Cells} ...${{ rates, categories, shown, hasDiagonal, open }} marked=${state.category} />
    </section>
  `;
  return isLarge
    ? html`<div class="matrix-view large">${list} ${matrix}</div>`
    : html`<div class="matrix-view">${matrix} ${list}</div>`;
}

/**
 * The matrix of some categories and background, as a table of buttons. Arrow keys go from cell to cell.
 * @param {object} props
 * @param {Rates} props.rates
 * @param {number[]} props.categories
 * @param {Shown} props.shown
 * @param {boolean} props.hasDiagonal
 * @param {number | null} props.marked a category whose name stands out
 * @param {(cell: Cell) => void} props.open
 */
function Cells({ rates, categories, shown, hasDiagonal, marked, open }) {
  const [active, setActive] = useState(/** @type {Cell | null} */ (null));
  const table = useRef(/** @type {HTMLElement | null} */ (null));
  const { background } = rates;
  const all = background < 0 ? categories : [...categories, background];
  const isEmpty = (/** @type {Cell} */ { actual, predicted }) =>
    (actual === background && predicted === background) || (actual === predicted && !hasDiagonal);
  const valueOf = (/** @type {Cell} */ cell) => {
    if (shown === "numbers") return rates.count(cell);
    return rates.count(cell) / (shown === "rows" ? rates.objects(cell.actual) : rates.detections(cell.predicted)) || 0;
  };
  const cells = all
    .flatMap((actual) => all.map((predicted) => ({ actual, predicted })))
    .filter((cell) => !isEmpty(cell));
  /** @type {Record<string, number>} */
  const largest = {};
  for (const cell of cells) {
    const scale = scaleOf(cell, background);
    largest[scale] = Math.max(largest[scale] ?? 0, valueOf(cell));
  }
  const strengthOf = (/** @type {Cell} */ cell) => Math.sqrt(valueOf(cell) / (largest[scaleOf(cell, background)] || 1));
  const inTabOrder = cells.find((cell) => isSame(cell, active)) ?? cells[0];

  const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
    const from = active ?? inTabOrder;
    const along = event.key === "ArrowUp" || event.key === "ArrowDown" ? "actual" : "predicted";
    const key = { ArrowUp: "ArrowLeft", ArrowDown: "ArrowRight" }[event.key] ?? event.key;
    const line = cells.filter((cell) =>
      along === "actual" ? cell.predicted === from.predicted : cell.actual === from.actual,
    );
    const to = indexByKey(
      line.findIndex((cell) => isSame(cell, from)),
      line.length,
      key,
    );
    if (to === null) return;
    event.preventDefault();
    const name = nameOfCell(line[to].actual, line[to].predicted);
    /** @type {HTMLElement | null | undefined} */ (table.current?.querySelector(`[data-cell="${name}"]`))?.focus();
  };

  const cellWidth = Math.round(Math.max(WIDTHS.cell[0], Math.min(WIDTHS.cell[1], WIDTHS.all / all.length)));
  const label = (/** @type {number} */ at) =>
    at === background ? "background" : html`<${Name} of=${rates.labels[at]} />`;
  const cell = (/** @type {Cell} */ at) => {
    if (isEmpty(at)) return html`<td class="empty"></td>`;
    const num = rates.count(at);
    return html`
      <td class=${kindOf(at, background)} style=${`--strength: ${strengthOf(at).toFixed(3)}`}>
        <button
          type="button"
          data-cell=${nameOfCell(at.actual, at.predicted)}
          tabindex=${isSame(at, inTabOrder) ? 0 : -1}
          aria-label=${sentence(rates, at)}
          aria-disabled=${num === 0 ? "true" : null}
          onPointerEnter=${() => setActive(at)}
          onFocus=${() => setActive(at)}
          onClick=${() => num > 0 && open(at)}
        >
          ${num === 0 ? "" : shown === "numbers" ? rates.words.format(num) : percent(valueOf(at))}
        </button>
      </td>
    `;
  };
  return html`
    <p class="said">
      ${active && !isEmpty(active) ? sentence(rates, active) : rates.words.hint}
    </p>
    <div class="matrix-scroll">
      <table
        class="matrix"
        style=${`--cell: ${cellWidth}px`}
        ref=${table}
        onKeyDown=${onKeyDown}
        onPointerLeave=${() => setActive(null)}
      >
        <thead>
          <tr>
            <td class="corner">actual ↓ predicted →</td>
            ${all.map(
              (at) => html`
                <th scope="col" class=${active?.predicted === at || marked === at ? "on" : null}>
                  <span title=${printable(rates.labels[at])}>${label(at)}</span>
                </th>
              `,
            )}
          </tr>
        </thead>
        <tbody>
          ${all.map(
            (actual) => html`
              <tr>
                <th scope="row" class=${active?.actual === actual || marked === actual ? "on" : null}>
                  <span title=${printable(rates.labels[actual])}>${label(actual)}</span>
                </th>
                ${all.map((predicted) => cell({ actual, predicted }))}
              </tr>
            `,
          )}
        </tbody>
      </table>
    </div>
  `;
}

/**
 * The most frequent confusions.
 * @param {{rates: Rates, pairs: Cell[], open: (cell: Cell) => void}} props
 */
function Pairs({ rates, pairs, open }) {
  const parts = (/** @type {Cell} */ cell) => [
    rate(rates.count(cell) / rates.objects(cell.actual)),
    rate(rates.count(cell) / rates.detections(cell.predicted)),
  ];
  return html`
    <section class="panel">
      <h2>Confused most</h2>
      ${
        pairs.length
          ? html`
            <table class="pairs">
              <thead>
                <tr>
                  <th scope="col">What is there</th>
                  <th scope="col">Predicted</th>
                  ${rates.words.columns.map((title) => html`<th scope="col">${title}</th>`)}
                </tr>
              </thead>
              <tbody>
                ${pairs.slice(0, NUM_PAIRS).map(
                  (cell) => html`
                    <tr onClick=${() => open(cell)}>
                      <td><${Name} of=${rates.labels[cell.actual]} /></td>
                      <td><${Name} of=${rates.labels[cell.predicted]} /></td>
                      <td>
                        <button type="button" class="small" aria-label=${`Images of ${sentence(rates, cell)}`}>
                          ${count(rates.count(cell))}
                        </button>
                      </td>
                      ${parts(cell).map((part) => html`<td>${part}</td>`)}
                    </tr>
                  `,
                )}
              </tbody>
            </table>
            ${
              pairs.length > NUM_PAIRS
                ? html`<p class="hint">and ${count(pairs.length - NUM_PAIRS)} more pairs</p>`
                : null
            }
          `
          : html`<p class="hint">${rates.words.none}</p>`
      }
    </section>
  `;
}

/**
 * Which categories the matrix has.
 * @param {{names: string[], chosen: Set<number>, setChosen: (chosen: Set<number>) => void}} props
 */
function Chooser({ names, chosen, setChosen }) {
  const toggle = (/** @type {number} */ category) => {
    const changed = new Set(chosen);
    if (!changed.delete(category)) changed.add(category);
    setChosen(changed);
  };
  return html`
    <details class="chooser">
      <summary>${chosen.size} of ${names.length} categories: choose others</summary>
      <ul>
        ${names.map(
          (name, at) => html`
            <li>
              <label>
                <input type="checkbox" checked=${chosen.has(at)} onChange=${() => toggle(at)} /> <${Name} of=${name} />
              </label>
            </li>
          `,
        )}
      </ul>
    </details>
  `;
}

/**
 * @param {ObjectTable} table
 * @param {Choice} choice
 * @returns {Rates}
 */
function ratesOf(table, choice) {
  const { labels, counts, rowsOf } = confusion(table, choice);
  return {
    ...sums(labels, counts),
    background: labels.length - 1,
    words: OBJECTS,
    title: ({ actual, predicted }) => titleOfCell(labels, actual, predicted),
    highestScore: ({ actual, predicted }) => table.detections.score[rowsOf(actual, predicted).detections[0]],
  };
}

/**
 * @param {import("./segmentation.js").Segmentation} segmentation
 * @returns {Rates}
 */
function ratesOfPixels({ classes, confusion }) {
  return {
    ...sums(classes.map(({ name }) => name), confusion.flat()),
    background: -1,
    words: PIXELS,
    title: ({ actual, predicted }) => titleOfPixels(classes, actual, predicted),
    highestScore: () => 0,
  };
}

/**
 * What a matrix has in its cells, rows and columns.
 * @param {string[]} labels
 * @param {ArrayLike<number>} counts row by row
 * @returns {Pick<Rates, "labels" | "count" | "objects" | "detections">}
 */
function sums(labels, counts) {
  const size = labels.length;
  const objects = new Float64Array(size);
  const detections = new Float64Array(size);
  for (let cell = 0; cell < counts.length; cell++) {
    objects[Math.floor(cell / size)] += counts[cell];
    detections[cell % size] += counts[cell];
  }
  return {
    labels,
    count: ({ actual, predicted }) => counts[actual * size + predicted],
    objects: (actual) => objects[actual],
    detections: (predicted) => detections[predicted],
  };
}

/**
 * The pairs of different categories that are confused, the most frequent first; of equal ones that with the highest
 * score.
 * @param {Rates} rates
 * @returns {Cell[]}
 */
function confusedPairs(rates) {
  const num = rates.background < 0 ? rates.labels.length : rates.background;
  const pairs = [];
  for (let actual = 0; actual < num; actual++) {
    for (let predicted = 0; predicted < num; predicted++) {
      if (actual !== predicted && rates.count({ actual, predicted })) pairs.push({ actual, predicted });
    }
  }
  return pairs
    .map((cell) => ({ cell, num: rates.count(cell), score: rates.highestScore(cell) }))
    .sort((a, b) => b.num - a.num || b.score - a.score)
    .map(({ cell }) => cell);
}

/**
 * The categories that stand in the address; null if there are none, or others than there are.
 * @param {string | null} text
 * @param {number} numCategories
 */
function chosenIn(text, numCategories) {
  if (text === null) return null;
  const chosen = new Set(text.split(",").filter(Boolean).map(Number));
  return [...chosen].every((category) => category < numCategories) ? chosen : null;
}

/**
 * The categories of the most frequent confusions.
 * @param {Cell[]} pairs
 */
function mostConfused(pairs) {
  const categories = new Set();
  for (const { actual, predicted } of pairs) {
    if (categories.size + Number(!categories.has(actual)) + Number(!categories.has(predicted)) > NUM_CHOSEN) break;
    categories.add(actual).add(predicted);
  }
  return categories;
}

/**
 * What a cell says, in one sentence.
 * @param {Rates} rates
 * @param {Cell} cell
 */
function sentence(rates, cell) {
  const { background, words } = rates;
  const { actual, predicted } = cell;
  const num = rates.count(cell);
  const parts = [`${rates.title(cell)}: ${count(num)}`];
  const part = (/** @type {number} */ whole, /** @type {string} */ of) => {
    if (whole) parts.push(`${rate(num / whole)} of the ${count(whole)} ${of}`);
  };
  if (actual !== background) part(rates.objects(actual), words.inRow(rates.labels[actual]));
  if (predicted !== background) part(rates.detections(predicted), words.inColumn(rates.labels[predicted]));
  return parts.join(", ");
}

/** @param {number} value */
const rate = (value) => `${(100 * value).toFixed(1)}%`;

/**
 * @param {Cell} a
 * @param {Cell | null | undefined} b
 */
const isSame = (a, b) => a.actual === b?.actual && a.predicted === b.predicted;

/**
 * @param {Cell} cell
 * @param {number} background
 */
const kindOf = ({ actual, predicted }, background) =>
  actual === predicted ? "right" : predicted === background ? "missed" : "wrong";

/**
 * What the color of a cell is relative to: right ones, confusions and background have a scale each, or nobody would see
 * a confusion beside thousands of others. The root shows small numbers.
 * @param {Cell} cell
 * @param {number} background
 */
const scaleOf = ({ actual, predicted }, background) =>
  actual === predicted ? "right" : actual === background || predicted === background ? "background" : "confused";
