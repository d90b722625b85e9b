/**
 * The view "Curves": precision, recall and F1, calibration, and how values are distributed. A point of a curve chooses
 * its confidence; a bar opens its images.
 */

import { BarChart, LineChart } from "./chart.js";
import { DISTRIBUTIONS, calibration, edges, histogram, judged, titleOfBin } from "./distributions.js";
import { count, number, percent } from "./format.js";
import { nameOfBar, quoted } from "./selection.js";
import { IOU_THRESHOLDS, counts, curve } from "./table.js";
import { html, useEffect, useMemo, useState } from "./vendor/preact.js";

/**
 * @typedef {import("./table.js").ObjectTable} ObjectTable
 * @typedef {import("./table.js").Choice} Choice
 * @typedef {import("./table.js").Curve} Curve
 * @typedef {import("./chart.js").Line} Line
 */

/** The page does not answer for so long while curves are computed. */
const MOST_AT_ONCE_MS = 100;
/**
 * How curves of categories look: Okabe's and Ito's colors that are legible on white and on black, and dashes where they
 * look alike to the color-blind. More categories have no curves of their own: those with the lowest AP have.
 */
const STYLES_OF_CATEGORIES = [
  { color: "#e69f00" },
  { color: "#56b4e9" },
  { color: "#009e73" },
  { color: "#cc79a7", dash: "7 4" },
  { color: "#e69f00", dash: "7 4" },
  { color: "#56b4e9", dash: "7 4" },
  { color: "#009e73", dash: "2 4" },
  { color: "#cc79a7", dash: "2 4" },
];
/** Indices of the IoUs 0.50, 0.60, …, 0.90, and how they look. */
const IOUS = [0, 2, 4, 6, 8];
const STYLES_OF_IOUS = [
  { color: "var(--blue)" },
  { color: "#009e73", dash: "7 4" },
  { color: "#cc79a7", dash: "2 3" },
  { color: "#e69f00", dash: "14 4" },
  { color: "var(--vermilion)", dash: "7 3 2 3" },
];

/** Also told apart without colors: by the same dashes as in pictures. */
const OUTCOMES = {
  right: { color: "var(--blue)" },
  found: { color: "var(--blue)" },
  wrong: { color: "var(--vermilion)", dash: "5 3" },
  missed: { color: "var(--yellow)", dash: "2 2" },
};

const BARS = [
  { title: "IoU of right detections", xLabel: "IoU with the object", names: ["iou_right"] },
  { title: "Confidence", xLabel: "Confidence", names: ["score_right", "score_wrong"], isLog: true },
  { title: "Size of objects", xLabel: "Square root of the area, in pixels", names: ["size_found", "size_missed"] },
  { title: "Size of wrong detections", xLabel: "Square root of the area, in pixels", names: ["size_wrong"] },
  { title: "Aspect ratio of objects", xLabel: "Width / height", names: ["aspect_found", "aspect_missed"] },
  { title: "Aspect ratio of wrong detections", xLabel: "Width / height", names: ["aspect_wrong"] },
];

/** @param {import("./app.js").ViewProps} props */
export function Curves({ table, evaluation, choice, setState }) {
  const { confidence, iou, category, minArea, maxArea } = choice;
  const fixed = [table, iou, category, minArea, maxArea];
  const ofCategories = useMemo(() => categoriesWithCurves(table, evaluation, category), [table, evaluation, category]);
  const byCategory = useInTurn(
    ofCategories.map((of) => () => curve(table, { ...choice, category: of })),
    [...fixed, ofCategories],
  );
  const main = useMemo(() => curve(table, choice), fixed);
  const byIou = useInTurn(
    IOUS.map((of) => () => curve(table, { ...choice, iou: of })),
    [table, category, minArea, maxArea],
  );
  const calibrated = useMemo(() => calibration(table, choice), fixed);
  const counted = useMemo(() => counts(table, judged(table, choice, true)), [table, choice]);

  const who = category === null ? "All categories" : table.categories[category].name;
  const choose = (/** @type {Curve[]} */ curves) => (/** @type {number} */ line, /** @type {number} */ at) =>
    setState({ confidence: curves[line].confidence[at] });
  const atThreshold = `at IoU ${IOU_THRESHOLDS[iou].toFixed(2)}`;
  const hint = "Circle: the chosen confidence. A click on a curve chooses another.";
  const scores = /** @type {[number, number]} */ ([edges(table, "score")[0], edges(table, "score").at(-1)]);

  return html`
    <div class="curves-view">
      <h2>Precision and recall</h2>
      <div class="charts">
        <${LineChart}
          title=${`Precision and recall ${atThreshold}`}
          xLabel="Recall"
          yLabel="Precision"
          x=${[0, 1]}
          y=${[0, 1]}
          lines=${[
            ...byCategory.map((of, at) =>
              precisionRecall(of, table.categories[ofCategories[at]].name, STYLES_OF_CATEGORIES[at]),
            ),
            precisionRecall(main, who, { color: "var(--ink)", width: 3 }),
          ]}
          marks=${[
            ...byCategory.map((_, at) => ({
              ...pointOf(counted.perCategory[ofCategories[at]]),
              ...STYLES_OF_CATEGORIES[at],
              radius: 4,
            })),
            { ...pointOf(counted), color: "var(--ink)" },
          ]}
          hint=${
            ofCategories.length && ofCategories.length < table.categories.length
              ? `${hint} Of ${table.categories.length} categories, the ${ofCategories.length} with the lowest AP.`
              : hint
          }
          onSelect=${choose([...byCategory, main])}
        />
        <${LineChart}
          title="Precision and recall at five IoU thresholds"
          xLabel="Recall"
          yLabel="Precision"
          x=${[0, 1]}
          y=${[0, 1]}
          lines=${byIou.map((of, at) =>
            precisionRecall(of, `IoU ${IOU_THRESHOLDS[IOUS[at]].toFixed(2)}`, {
              ...STYLES_OF_IOUS[at],
              width: IOUS[at] === iou ? 3.5 : 2,
            }),
          )}
          hint="How much precision and recall depend on how well boxes must fit."
          onSelect=${choose(byIou)}
        />
        <${LineChart}
          title=${`By confidence, ${atThreshold}`}
          xLabel="Confidence"
          yLabel="Precision, recall, F1"
          x=${scores}
          y=${[0, 1]}
          rule=${confidence}
          lines=${againstConfidence(main)}
          hint="Line: the chosen confidence. A click on a curve chooses another."
          onSelect=${choose([main, main, main])}
        />
        <${Calibration} calibrated=${calibrated} open=${openBar(setState)} />
      </div>
      <h2>Distributions</h2>
      <div class="charts of-bars">
        ${BARS.map((bars) => html`<${Distribution} ...${{ table, choice, open: openBar(setState), ...bars }} />`)}
      </div>
    </div>
  `;
}

/**
 * The results of functions that take long together, as many as are there: the page is drawn and answers in between.
 * @template Result
 * @param {(() => Result)[]} tasks
 * @param {unknown[]} inputs what the results depend on
 * @returns {Result[]}
 */
function useInTurn(tasks, inputs) {
  const [results, setResults] = useState(/** @type {{of: unknown[], values: Result[]}} */ ({ of: inputs, values: [] }));
  const isOf = (/** @type {unknown[]} */ others) =>
    others.length === inputs.length && others.every((of, at) => of === inputs[at]);
  useEffect(() => {
    /** @type {Result[]} */
    const values = [];
    let timer = setTimeout(function next() {
      const begin = performance.now();
      while (values.length < tasks.length && performance.now() - begin < MOST_AT_ONCE_MS) {
        values.push(tasks[values.length]());
      }
      setResults({ of: inputs, values: [...values] });
      if (values.length < tasks.length) timer = setTimeout(next);
    });
    return () => clearTimeout(timer);
  }, inputs);
  // Results of other inputs are wrong ones.
  return isOf(results.of) ? results.values : [];
}

/** @param {(change: object) => void} setState */
const openBar = (setState) => (/** @type {string} */ name, /** @type {number} */ low, /** @type {number} */ high) =>
  setState({ view: "images", cell: nameOfBar(name, low, high), image: null });

/**
 * How right detections of each confidence are.
 * @param {object} props
 * @param {ReturnType<typeof calibration>} props.calibrated
 * @param {(name: string, low: number, high: number) => void} props.open
 */
function Calibration({ calibrated: { ece, bins }, open }) {
  if (ece === null) {
    return html`
      <figure class="chart">
        <figcaption>Calibration</figcaption>
        <p class="hint">Not defined: no detection is right or wrong, or scores are not from 0 to 1.</p>
      </figure>
    `;
  }
  const describe = (/** @type {number} */ at) => {
    const { low, high, num, meanScore, precision } = bins[at];
    const which = `${count(num)} detections with ${titleOfBin("score", low, high)}`;
    return `${which}, mean ${number(meanScore)}: ${percent(precision)} are right`;
  };
  return html`
    <${LineChart}
      title=${`Calibration: expected error ${number(ece)}`}
      xLabel="Mean confidence"
      yLabel="Part that is right"
      x=${[0, 1]}
      y=${[0, 1]}
      lines=${[
        {
          name: "Detections of a tenth of the scale",
          color: "var(--blue)",
          x: bins.map((bin) => bin.meanScore),
          y: bins.map((bin) => bin.precision),
          dots: true,
          describe,
        },
        {
          name: "Well calibrated",
          color: "var(--pale-ink)",
          dash: "3 4",
          x: [0, 1],
          y: [0, 1],
          describe: () => "Where scores say how many detections are right",
        },
      ]}
      hint="Below the dotted line the detector is too sure of itself. A click on a point opens its images."
      onSelect=${(/** @type {number} */ line, /** @type {number} */ at) => {
        if (line === 0) open("score", bins[at].low, bins[at].high);
      }}
    />
  `;
}

/**
 * Bars of one quantity.
 * @param {object} props
 * @param {ObjectTable} props.table
 * @param {Choice} props.choice
 * @param {string} props.title
 * @param {string} props.xLabel
 * @param {string[]} props.names of `DISTRIBUTIONS`
 * @param {boolean} [props.isLog]
 * @param {(name: string, low: number, high: number) => void} props.open
 */
function Distribution({ table, choice, title, xLabel, names, isLog, open }) {
  const { quantity } = DISTRIBUTIONS[names[0]];
  const bins = edges(table, quantity);
  // Distributions of scores do not depend on the confidence.
  const confidence = names.some((name) => DISTRIBUTIONS[name].atConfidence) ? choice.confidence : null;
  const counted = useMemo(
    () => names.map((name) => histogram(table, choice, name)),
    [table, choice.iou, choice.category, choice.minArea, choice.maxArea, confidence, names],
  );
  const series = names.map((name, at) => ({
    name: DISTRIBUTIONS[name].who,
    ...OUTCOMES[/** @type {keyof OUTCOMES} */ (name.split("_")[1])],
    counts: counted[at],
  }));
  return html`
    <${BarChart}
      title=${title}
      xLabel=${xLabel}
      edges=${bins}
      series=${series}
      isLog=${isLog}
      hint=${`${confidence === null ? "At any confidence. " : ""}A click on a bar opens its images.`}
      describe=${(/** @type {number} */ of, /** @type {number} */ bin) =>
        `${series[of].name}, ${titleOfBin(quantity, bins[bin], bins[bin + 1])}: ${count(series[of].counts[bin])}`}
      onSelect=${(/** @type {number} */ of, /** @type {number} */ bin) => open(names[of], bins[bin], bins[bin + 1])}
    />
  `;
}

/**
 * The categories that have a curve of their own beside that of all.
 * @param {ObjectTable} table
 * @param {any} evaluation
 * @param {number | null} chosen the only category that is looked at
 * @returns {number[]}
 */
function categoriesWithCurves(table, evaluation, chosen) {
  if (chosen !== null || table.categories.length < 2) return [];
  const metrics = new Map(Object.entries(evaluation.per_category ?? {}));
  const apOf = (/** @type {number} */ at) => {
    const of = metrics.get(table.categories[at].name);
    return (table.iouType === "segm" ? of?.segm?.AP : of?.AP) ?? Infinity;
  };
  const numObjects = new Float64Array(table.categories.length);
  table.objects.category.forEach((category, row) => {
    if (!table.objects.ignored[row]) numObjects[category]++;
  });
  const there = table.categories.map((_, at) => at).filter((at) => numObjects[at] > 0);
  return there.sort((a, b) => apOf(a) - apOf(b) || a - b).slice(0, STYLES_OF_CATEGORIES.length);
}

/**
 * @param {Curve} of
 * @param {string} name
 * @param {{color: string, dash?: string, width?: number}} style
 * @returns {Line}
 */
const precisionRecall = (of, name, style) => ({
  name,
  ...style,
  x: of.recall,
  y: of.precision,
  describe: (at) =>
    `${quoted(name)}: precision ${percent(of.precision[at])}, recall ${percent(of.recall[at])}, ` +
    `F1 ${percent(of.f1[at])} at confidence ${number(of.confidence[at])}`,
});

/**
 * @param {Curve} of
 * @returns {Line[]}
 */
function againstConfidence(of) {
  const describe = (/** @type {number} */ at) =>
    `Confidence ${number(of.confidence[at])}: precision ${percent(of.precision[at])}, ` +
    `recall ${percent(of.recall[at])}, ` +
    `F1 ${percent(of.f1[at])}`;
  return [
    { name: "Precision", color: "var(--vermilion)", dash: "7 4", x: of.confidence, y: of.precision, describe },
    { name: "Recall", color: "#e69f00", dash: "2 4", x: of.confidence, y: of.recall, describe },
    { name: "F1", color: "var(--blue)", width: 3, x: of.confidence, y: of.f1, describe },
  ];
}

/** @param {{recall: number | null, precision: number | null}} counted */
const pointOf = ({ recall, precision }) => ({ x: recall ?? NaN, y: precision ?? NaN });
