/** The first screen of semantic segmentation: how good it is, class by class, and what is confused most. */

import { Name, compact, count, number, percent } from "./format.js";
import { Bar, Findings, ThroughTraining, Tile } from "./overview.js";
import { nameOfCell } from "./selection.js";
import { html, useMemo, useState } from "./vendor/preact.js";

/**
 * @typedef {import("./app.js").PixelViewProps} PixelViewProps
 * @typedef {import("./segmentation.js").Segmentation} Segmentation
 * @typedef {import("./state.js").State} State
 * @typedef {Record<string, number | null>} Metrics of a class, or of all
 */

const MOST_CONFUSIONS = 8;
const MOST_CLASSES = 20;
/** Metric -> its title and what it means; the metrics file of an evaluation has it of all, and of each class. */
const METRICS = {
  IoU: ["IoU", "intersection over union of what is there and what is predicted"],
  boundary_IoU: ["Boundary IoU", "the same of what is near the edges"],
  F1: ["F1", "harmonic mean of precision and recall"],
  AP: ["AP", "precision at all recalls, as the score that is needed falls"],
  AR: ["AR", "recall at all scores that may be needed"],
};

/** @param {Omit<PixelViewProps, "segmentation"> & {segmentation: Segmentation | null | undefined}} props */
export function PixelOverview({ segmentation, evaluation, state, setState, evaluations }) {
  const all = evaluation.segmentation ?? {};
  const name = segmentation && state.category !== null ? segmentation.classes[state.category].name : null;
  return html`
    ${name !== null && html`<h2>Only “<${Name} of=${name} />”</h2>`}
    <${Tiles} all=${all} ofClass=${name === null ? null : (all.per_category?.[name] ?? {})} />
    <div class="panels">
      <div class="stack">
        <${Findings} ...${{ findings: evaluation.findings ?? [], images: segmentation?.images ?? [], setState }} />
        <${Classes} ...${{ all, segmentation, setState }} />
        ${evaluations.length > 1 &&
        html`<${ThroughTraining}
          title="IoU and pixel accuracy through training"
          metrics=${{ IoU: "IoU", "pixel accuracy": "pixel_accuracy" }}
          ...${{ evaluations, step: state.step, setState }}
        />`}
      </div>
      <div class="stack">
        ${segmentation && segmentation.classes.length > 1 && html`<${MostConfused} ...${{ segmentation, state, setState }} />`}
      </div>
    </div>
  `;
}

/** @param {{all: Record<string, any>, ofClass: Metrics | null}} props ofClass: of the only class that counts; null for all */
function Tiles({ all, ofClass }) {
  const numClasses = Object.keys(all.per_category ?? {}).length - (all.absent_classes?.length ?? 0);
  const mean = ofClass ? "" : `, mean of ${numClasses} classes`;
  const accuracy = ofClass
    ? { title: "Accuracy", value: ofClass.accuracy, text: `of its ${count(ofClass.num_groundtruth_pixels ?? 0)} pixels` }
    : {
        title: "Pixel accuracy",
        value: all.pixel_accuracy,
        text: `of ${count(all.num_pixels ?? 0)} pixels${all.num_ignored ? `; ${count(all.num_ignored)} more are ignored` : ""}`,
      };
  return html`<dl class="tiles">
    ${Object.entries(METRICS).map(([metric, [title, text]], at) => html`
      <${Tile} title=${title} value=${(ofClass ?? all)[metric]} text=${text + mean} />
      ${at === 0 && html`<${Tile} ...${accuracy} />`}
      ${at === 0 && !ofClass && html`<${Tile} title="Mean class accuracy" value=${all.mean_class_accuracy} text="part of the pixels of a class that is right${mean}" />`}
    `)}
  </dl>`;
}

/**
 * The metrics of each class, to be sorted.
 * @param {{all: Record<string, any>, segmentation: Segmentation | null | undefined,
 *   setState: (change: Partial<State>) => void}} props
 */
function Classes({ all, segmentation, setState }) {
  const [order, setOrder] = useState({ column: "IoU", isDescending: false });
  const [isWhole, setWhole] = useState(false);
  /** @type {Record<string, Metrics>} */
  const perClass = all.per_category ?? {};
  const places = useMemo(() => new Map(segmentation?.classes.map(({ name }, at) => [name, at])), [segmentation]);
  const columns = [
    ...Object.entries(METRICS).map(([name, [title, about]]) => ({ name, title, about, format: number })),
    { name: "accuracy", title: "Accuracy", about: "part of its pixels that is right", format: number },
    { name: "num_groundtruth_pixels", title: "Pixels", about: "pixels of the class", format: pixels },
    { name: "num_predicted_pixels", title: "Predicted", about: "pixels predicted as it", format: pixels },
  ];
  const names = useMemo(() => inOrder(perClass, order), [perClass, order]);
  const shown = isWhole ? names : names.slice(0, MOST_CLASSES);
  const absent = all.absent_classes ?? [];
  const sortBy = (/** @type {string} */ column) =>
    setOrder({ column, isDescending: order.column === column && !order.isDescending });
  return html`<section class="panel" aria-labelledby="classes">
    <h2 id="classes">Classes</h2>
    <div class="scrolls">
      <table class="numbers">
        <thead>
          <tr>
            <${SortHeading} title="Class" about="name" column="name" ...${{ order, sortBy }} />
            ${columns.map(({ name, title, about }) => html`<${SortHeading} key=${name} column=${name} ...${{ title, about, order, sortBy }} />`)}
          </tr>
        </thead>
        <tbody>
          ${shown.map((name) => {
            const category = places.get(name);
            return html`<tr key=${name}>
              <th scope="row">
                ${category === undefined
                  ? html`<${Name} of=${name} />`
                  : html`<button type="button" class="link" onClick=${() => setState({ view: "images", category, cell: null, image: null })}>
                      <i class="class-color" style=${{ background: segmentation?.classes[category].color }}></i><${Name} of=${name} />
                    </button>`}
              </th>
              ${columns.map(({ name: metric, format }) => html`<td key=${metric}>${format(perClass[name][metric])}</td>`)}
            </tr>`;
          })}
        </tbody>
      </table>
    </div>
    ${names.length > MOST_CLASSES &&
    html`<button type="button" class="small" aria-expanded=${String(isWhole)} onClick=${() => setWhole(!isWhole)}>
      ${isWhole ? `the first ${MOST_CLASSES}` : `all ${names.length}`}
    </button>`}
    ${absent.length > 0 &&
    html`<p class="hint classes-absent">
      No pixel of the data is of
      ${absent.map((/** @type {string} */ name, /** @type {number} */ at) => html`${at > 0 && ","} “<${Name} of=${name} />”`)}:
      left out of the means.
    </p>`}
  </section>`;
}

/**
 * @param {{title: string, about: string, column: string, order: {column: string, isDescending: boolean},
 *   sortBy: (column: string) => void}} props
 */
function SortHeading({ title, about, column, order, sortBy }) {
  const isSorted = order.column === column;
  return html`<th scope="col" aria-sort=${isSorted ? (order.isDescending ? "descending" : "ascending") : undefined}>
    <button type="button" class="sorts" title=${about} onClick=${() => sortBy(column)}>
      ${title}<span class="images-arrow" aria-hidden="true">${isSorted ? (order.isDescending ? "▼" : "▲") : ""}</span>
    </button>
  </th>`;
}

/**
 * The names of classes by a column. Those without a value come last.
 * @param {Record<string, Metrics>} perClass
 * @param {{column: string, isDescending: boolean}} order
 */
function inOrder(perClass, { column, isDescending }) {
  const sign = isDescending ? -1 : 1;
  return Object.keys(perClass).sort((a, b) => {
    if (column === "name") return sign * (a < b ? -1 : 1);
    const [valueA, valueB] = [perClass[a][column] ?? null, perClass[b][column] ?? null];
    if (valueA === null || valueB === null) return Number(valueA === null) - Number(valueB === null);
    return sign * (valueA - valueB);
  });
}

/** @param {{segmentation: Segmentation, state: State, setState: (change: Partial<State>) => void}} props */
function MostConfused({ segmentation, state, setState }) {
  const { classes, confusion } = segmentation;
  const pairs = useMemo(() => confusedPairs(confusion, state.category), [confusion, state.category]);
  return html`<section class="panel" aria-labelledby="confusions">
    <h2 id="confusions">Worst confusions</h2>
    <p class="hint">pixels of one class that are taken for another, and which part of the class they are</p>
    ${pairs.length
      ? html`<ul class="bars">
          ${pairs.slice(0, MOST_CONFUSIONS).map(
            ({ actual, predicted, num, share }) => html`<li>
              <${Bar} ...${{ share: num / pairs[0].num, value: compact(num), detail: percent(share), onClick: () => setState({ view: "images", cell: nameOfCell(actual, predicted), image: null }) }}>
                <${Name} of=${classes[actual].name} /> → <${Name} of=${classes[predicted].name} />
              <//>
            </li>`,
          )}
        </ul>`
      : html`<p>None.</p>`}
  </section>`;
}

/**
 * Pairs of classes that are confused, the most frequent first; of the only class that counts, if there is one.
 * @param {number[][]} confusion
 * @param {number | null} category
 */
function confusedPairs(confusion, category) {
  return confusion
    .flatMap((row, actual) => {
      const all = row.reduce((sum, num) => sum + num, 0);
      return row.map((num, predicted) => ({ actual, predicted, num, share: num / all }));
    })
    .filter(({ actual, predicted, num }) => num && actual !== predicted && [null, actual, predicted].includes(category))
    .sort((a, b) => b.num - a.num || b.share - a.share);
}

/** @param {number | null | undefined} num */
const pixels = (num) => (num === null || num === undefined ? "–" : compact(num));
