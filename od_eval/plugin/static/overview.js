/** The first screen: how good the evaluation is, and where to look first. Each number opens the images behind it. */

import { LineChart } from "./chart.js";
import { Name, count, number, percent, printable } from "./format.js";
import { TITLES_OF_ERRORS, nameOfCell } from "./selection.js";
import { IOU_THRESHOLDS, confusion, counts, judge } from "./table.js";
import { html, useMemo, useState } from "./vendor/preact.js";

/**
 * @typedef {import("./source.js").Evaluation} Evaluation
 * @typedef {import("./source.js").IndexedEvaluation} IndexedEvaluation
 * @typedef {import("./state.js").State} State
 * @typedef {import("./table.js").ObjectTable} ObjectTable
 * @typedef {import("./table.js").Choice} Choice
 * @typedef {import("./table.js").Counts} Counts
 * @typedef {(cell: string) => void} Open Shows the images of what selection.js calls by this name.
 */

const MOST_CONFUSIONS = 8;
const MOST_CATEGORIES = 8;
const MOST_IMAGES_OF_FINDING = 6;

/**
 * @param {{table: ObjectTable | null | undefined, evaluation: Evaluation, choice: Choice, state: State,
 *   setState: (change: Partial<State>) => void, evaluations: IndexedEvaluation[]}} props
 *   table: null if it is not kept, undefined if it is not there yet; evaluations: of the run
 */
export function Overview({ table: given, evaluation, choice, state, setState, evaluations }) {
  const { type } = state;
  const table = given ?? null;
  const all = useMemo(() => table && counts(table, judge(table, { ...choice, category: null })), [table, choice]);
  const counted = all && choice.category !== null ? all.perCategory[choice.category] : all;
  /** @type {Open} */
  const open = (cell) => setState({ view: "images", cell, image: null });
  const name = table && choice.category !== null ? table.categories[choice.category].name : null;
  return html`
    ${name !== null && html`<h2>Only “<${Name} of=${name} />”</h2>`}
    <${Tiles} ...${{ evaluation, counted, choice, type, name, state }} />
    <div class="panels">
      <div class="stack">
        <${Findings} ...${{ findings: evaluation.findings ?? [], images: table?.images ?? [], setState }} />
        <${Categories} ...${{ evaluation, type, perCategory: all?.perCategory, table, open }} />
        ${evaluations.length > 1 &&
        html`<${ThroughTraining}
          title="AP and AP50 through training"
          metrics=${Object.fromEntries(["AP", "AP50"].map((metric) => [metric, type === "segm" ? `segm_${metric}` : metric]))}
          ...${{ evaluations, step: state.step, setState }}
        />`}
      </div>
      <div class="stack">
        <${ErrorCosts} ...${{ errors: ofType(evaluation.errors, type), name, open: table && open }} />
        ${table && table.categories.length > 1 && html`<${WorstConfusions} ...${{ table, choice, open }} />`}
      </div>
    </div>
  `;
}

/**
 * The part of a section that is of boxes or of masks.
 * @param {Record<string, any> | null | undefined} section
 * @param {"bbox" | "segm"} type
 */
const ofType = (section, type) => (type === "segm" ? section?.segm : section) ?? {};

/**
 * @param {{evaluation: Evaluation, counted: Counts | null, choice: Choice, type: "bbox" | "segm", name: string | null,
 *   state: State}} props name: of the only category that counts; null for all
 */
function Tiles({ evaluation, counted, choice, type, name, state }) {
  const intervals = ofType(evaluation.intervals, type);
  const ofCategory = (/** @type {Record<string, any> | undefined} */ section) =>
    (name === null ? section : section?.per_category?.[name]) ?? {};
  const metrics = (name === null ? evaluation[type] : ofType(evaluation.per_category?.[name], type)) ?? {};
  const interval = ofCategory(intervals);
  const point = evaluation.operating_point ?? {};
  const at = counted ?? (name === null ? point[type] : null) ?? {};
  const isOperatingPoint = choice.confidence === point.confidence && choice.iou === 0 && state.size === "all";
  const where = `at confidence ${number(choice.confidence)}, IoU ${IOU_THRESHOLDS[choice.iou].toFixed(2)}`;
  const [tp, dt, gt] = [at.tp, at.dt ?? at.num_detections, at.gt ?? at.num_groundtruth];
  const isCounted = tp !== undefined;
  return html`<dl class="tiles">
    <${Tile} title="AP" value=${metrics.AP} interval=${interval.AP} text="mean over IoU 0.50 to 0.95, at all confidences" />
    <${Tile} title="AP50" value=${metrics.AP50} interval=${interval.AP50} text="at IoU 0.50, at all confidences" />
    <${Tile} title="Precision" value=${at.precision} text=${isCounted ? `${count(tp)} of ${count(dt)} detections are right` : where} />
    <${Tile} title="Recall" value=${at.recall} text=${isCounted ? `${count(tp)} of ${count(gt)} objects are found` : where} />
    <${Tile} title="F1" value=${at.f1} interval=${isOperatingPoint ? interval.F1 : null} text=${where} />
  </dl>`;
}

/** @param {{title: string, value: number | null | undefined, interval?: [number, number] | null, text: string}} props */
export const Tile = ({ title, value, interval, text }) => html`<div class="tile">
  <dt>${title}</dt>
  <dd>
    <strong>${number(value)}</strong>
    ${interval && html`<span class="interval">${number(interval[0])} to ${number(interval[1])} (95%)</span>`}
    <small>${text}</small>
  </dd>
</div>`;

/**
 * @param {{findings: any[], images: {id: string | number}[], setState: (change: Partial<State>) => void}} props
 *   images: which a finding may name
 */
export function Findings({ findings, images: all, setState }) {
  const places = useMemo(() => new Map(all.map(({ id }, at) => [String(id), at])), [all]);
  if (!findings.length) return null;
  return html`<section class="panel" aria-labelledby="findings">
    <h2 id="findings">Findings</h2>
    <ul class="findings">
      ${findings.map(({ severity, sentence, sureness, images }) => {
        /** @type {number[]} */
        const shown = (images ?? []).map((/** @type {unknown} */ id) => places.get(String(id))).filter((/** @type {unknown} */ at) => at !== undefined);
        return html`<li>
          <span class=${`severity ${["error", "warning"].includes(severity) ? severity : ""}`}>${printable(String(severity))}</span>
          <div>
            <bdi>${printable(String(sentence))}</bdi>
            ${sureness && sureness !== "certain" && html` <span class="hint">(${printable(String(sureness))})</span>`}
            ${shown.length > 0 &&
            html`<div class="links">
              Images:${" "}
              ${shown.slice(0, MOST_IMAGES_OF_FINDING).map(
                (at) => html`<button type="button" class="link" onClick=${() => setState({ view: "images", image: at, cell: null })}>
                  <${Name} of=${all[at].id} />
                </button>`,
              )}
            </div>`}
          </div>
        </li>`;
      })}
    </ul>
  </section>`;
}

/**
 * @param {{errors: Record<string, any>, name: string | null, open: Open | null}} props
 *   errors: the section of that name; open: null if nothing can be opened
 */
function ErrorCosts({ errors, name, open }) {
  const costs = (name === null ? errors : errors.per_category?.[name]) ?? {};
  const kinds = Object.entries(TITLES_OF_ERRORS)
    .map(([kind, title]) => ({ kind, title, cost: /** @type {number | null | undefined} */ (costs[kind]) }))
    .filter(({ cost }) => cost !== null && cost !== undefined)
    .sort((a, b) => Number(b.cost) - Number(a.cost));
  const most = Math.max(...kinds.map(({ cost }) => Number(cost)), 1e-9);
  return html`<section class="panel" aria-labelledby="costs">
    <h2 id="costs">What costs most</h2>
    <p class="hint">AP50 that is gained if the errors of this kind alone were fixed</p>
    ${kinds.length
      ? html`<ul class="bars">
          ${kinds.map(
            ({ kind, title, cost }) => html`<li>
              <${Bar} ...${{ share: Number(cost) / most, value: `+${number(cost)}`, onClick: open && (() => open(`errors/${kind}`)) }}>${title}<//>
            </li>`,
          )}
        </ul>`
      : html`<p>The evaluation has not computed it.</p>`}
  </section>`;
}

/**
 * A text, a bar and a value, which open something; only show it if there is nothing to open.
 * @param {{share: number, value: string, detail?: string, onClick: (() => void) | null, children?: any}} props
 */
export function Bar({ share, value, detail, onClick, children }) {
  const contents = html`
    <span class="bar-text">${children}</span>
    <span class="bar-value">${value}${detail && html` <small>${detail}</small>`}</span>
    <span class="bar-line"><i style=${{ width: `${100 * Math.max(0, share)}%` }}></i></span>
  `;
  return onClick
    ? html`<button type="button" class="bar" onClick=${onClick}>${contents}</button>`
    : html`<span class="bar">${contents}</span>`;
}

/** @param {{table: ObjectTable, choice: Choice, open: Open}} props */
function WorstConfusions({ table, choice, open }) {
  const confusions = useMemo(() => worstConfusions(table, choice), [table, choice]);
  const most = confusions[0]?.num;
  return html`<section class="panel" aria-labelledby="confusions">
    <h2 id="confusions">Worst confusions</h2>
    <p class="hint">objects of one category that are taken for another, at this confidence</p>
    ${confusions.length
      ? html`<ul class="bars">
          ${confusions.slice(0, MOST_CONFUSIONS).map(
            ({ actual, predicted, num, share }) => html`<li>
              <${Bar} ...${{ share: num / most, value: count(num), detail: percent(share), onClick: () => open(nameOfCell(actual, predicted)) }}>
                <${Name} of=${table.categories[actual].name} /> → <${Name} of=${table.categories[predicted].name} />
              <//>
            </li>`,
          )}
        </ul>`
      : html`<p>None.</p>`}
  </section>`;
}

/**
 * Pairs of categories that are confused, the most frequent first; of the only category that counts, if there is one.
 * @param {ObjectTable} table
 * @param {Choice} choice
 */
function worstConfusions(table, choice) {
  const matrix = confusion(table, choice);
  const num = table.categories.length;
  const pairs = [];
  for (let actual = 0; actual < num; actual++) {
    const row = matrix.counts.subarray(actual * (num + 1), (actual + 1) * (num + 1));
    const objects = row.reduce((total, value) => total + value, 0);
    for (let predicted = 0; predicted < num; predicted++) {
      if (predicted === actual || !row[predicted]) continue;
      if (choice.category !== null && choice.category !== actual && choice.category !== predicted) continue;
      pairs.push({ actual, predicted, num: row[predicted], share: row[predicted] / objects });
    }
  }
  return pairs.sort((a, b) => b.num - a.num || b.share - a.share);
}

/**
 * @param {{evaluation: Evaluation, type: "bbox" | "segm", perCategory: Counts[] | undefined, table: ObjectTable | null,
 *   open: Open}} props perCategory: at what is chosen, whichever category that is
 */
function Categories({ evaluation, type, perCategory, table, open }) {
  const [isWhole, setWhole] = useState(false);
  const names = table ? table.categories.map(({ name }) => name) : Object.keys(evaluation.per_category ?? {});
  const intervals = ofType(evaluation.intervals, type).per_category ?? {};
  const rows = names
    .map((name, at) => ({
      name,
      at,
      ap: /** @type {number | null} */ (ofType(evaluation.per_category?.[name], type).AP ?? null),
      interval: intervals[name]?.AP,
      counts: perCategory?.[at],
    }))
    .sort((a, b) => (a.ap ?? Infinity) - (b.ap ?? Infinity) || 0);
  const shown = isWhole ? rows : rows.slice(0, MOST_CATEGORIES);
  return html`<section class="panel" aria-labelledby="categories">
    <h2 id="categories">${names.length > 1 ? "Categories, the worst first" : "Category"}</h2>
    <div class="scrolls">
      <table class="numbers">
        <thead>
          <tr>
            <th scope="col">Category</th>
            <th scope="col">AP</th>
            <th scope="col">95% interval</th>
            ${perCategory && html`<th scope="col">Objects</th><th scope="col">Precision</th><th scope="col">Recall</th><th scope="col">F1</th>
            <th scope="col">Wrong</th><th scope="col">Missed</th>`}
          </tr>
        </thead>
        <tbody>
          ${shown.map(
            ({ name, at, ap, interval, counts: of }) => html`<tr key=${at}>
              <th scope="row">
                ${table
                  ? html`<button type="button" class="link" onClick=${() => open(`category/${at}`)}><${Name} of=${name} /></button>`
                  : html`<${Name} of=${name} />`}
              </th>
              <td>${number(ap)}</td>
              <td>${interval ? `${number(interval[0])} to ${number(interval[1])}` : "–"}</td>
              ${of && html`<td>${count(of.gt)}</td><td>${number(of.precision)}</td><td>${number(of.recall)}</td><td>${number(of.f1)}</td>
              <td>${count(of.fp)}</td><td>${count(of.fn)}</td>`}
            </tr>`,
          )}
        </tbody>
      </table>
    </div>
    ${rows.length > MOST_CATEGORIES &&
    html`<button type="button" class="small" aria-expanded=${String(isWhole)} onClick=${() => setWhole(!isWhole)}>
      ${isWhole ? `the worst ${MOST_CATEGORIES}` : `all ${rows.length}`}
    </button>`}
  </section>`;
}

/**
 * Two metrics of all evaluations of a run.
 * @param {{title: string, metrics: Record<string, string>, evaluations: IndexedEvaluation[], step: number | null,
 *   setState: (change: Partial<State>) => void}} props metrics: by what they are called on the page
 */
export function ThroughTraining({ title, metrics, evaluations, step, setState }) {
  const steps = evaluations.map((evaluation) => evaluation.step);
  const lines = Object.entries(metrics).map(([name, metric], line) => ({
    name,
    color: ["var(--blue)", "var(--vermilion)"][line],
    x: steps,
    y: evaluations.map((evaluation) => evaluation.metrics[metric] ?? NaN),
    dots: evaluations.length <= 50,
    describe: (/** @type {number} */ at) => `${name} ${number(evaluations[at].metrics[metric])} at step ${steps[at]}`,
  }));
  return html`<section class="panel">
    <${LineChart}
      title=${title}
      xLabel="step"
      yLabel=${lines[0].name}
      x=${[steps[0], steps[steps.length - 1]]}
      y=${[0, 1]}
      lines=${lines}
      rule=${step ?? undefined}
      hint="A click shows the evaluation of that step."
      onSelect=${(/** @type {number} */ _line, /** @type {number} */ at) => setState({ step: steps[at] })}
    />
  </section>`;
}
