/** The page: what is chosen above, and a view of it below. */

import { Compare } from "./compare.js";
import { Curves } from "./curves.js";
import { Name, number, printable } from "./format.js";
import { Images } from "./images.js";
import { Labels } from "./labels.js";
import { Matrix } from "./matrix.js";
import { Overview } from "./overview.js";
import { SIZES, VIEWS, inTensorBoard, useAppState } from "./state.js";
import { IOU_THRESHOLDS, bestF1, cuts } from "./table.js";
import { html, render, useEffect, useMemo, useRef, useState } from "./vendor/preact.js";

/**
 * @typedef {import("./source.js").Source} Source
 * @typedef {import("./source.js").Index} Index
 * @typedef {import("./source.js").IndexedEvaluation} IndexedEvaluation
 * @typedef {import("./source.js").Evaluation} Evaluation
 * @typedef {import("./state.js").State} State
 * @typedef {import("./table.js").ObjectTable} ObjectTable
 * @typedef {import("./table.js").Choice} Choice
 *
 * @typedef {object} Shown An evaluation that is loaded.
 * @property {string} run
 * @property {IndexedEvaluation} entry
 * @property {"bbox" | "segm"} type
 * @property {Evaluation} evaluation
 * @property {ObjectTable | null | undefined} table null if it was removed, or never written; undefined while it is on
 *   its way, of the first evaluation that is shown
 *
 * @typedef {object} ViewProps What each view is given.
 * @property {ObjectTable} table
 * @property {Evaluation} evaluation
 * @property {Choice} choice
 * @property {State} state
 * @property {(change: Partial<State>) => void} setState
 * @property {Source} source
 */

const TITLES = {
  overview: "Overview",
  matrix: "Confusion matrix",
  curves: "Curves",
  images: "Images",
  compare: "Compare",
  labels: "Labels",
};
const COMPONENTS = { overview: Overview, matrix: Matrix, curves: Curves, images: Images, compare: Compare, labels: Labels };

/** How often TensorBoard is asked for new evaluations: its own interval of reloading. */
const RELOAD_MS = 30_000;

/**
 * Shows the page.
 * @param {HTMLElement} root
 * @param {Source} source
 */
export function start(root, source) {
  followTheme();
  render(html`<${Page} source=${source} />`, root);
}

/** The theme is that of TensorBoard, which tells its frames nothing of it; elsewhere that of the browser. */
function followTheme() {
  const show = (/** @type {boolean} */ isDark) => {
    document.documentElement.dataset.theme = isDark ? "dark" : "light";
  };
  if (inTensorBoard()) {
    const body = window.parent.document.body;
    const follow = () => show(body.classList.contains("dark-mode"));
    new MutationObserver(follow).observe(body, { attributes: true, attributeFilter: ["class"] });
    follow();
  } else {
    const isDark = window.matchMedia("(prefers-color-scheme: dark)");
    isDark.addEventListener("change", () => show(isDark.matches));
    show(isDark.matches);
  }
}

/** @param {{source: Source}} props */
function Page({ source }) {
  const [state, setState, writeAddress] = useAppState();
  const [index, failure] = useIndex(source);
  const wanted = useMemo(() => index && chosenEvaluation(index, state), [index, state.run, state.step, state.type]);
  const [shown, isLoading, problem] = useEvaluation(source, wanted);
  useEffect(() => {
    if (wanted) writeAddress({ ...state, run: wanted.run, step: wanted.entry.step });
  }, [state, wanted]);

  if (failure && !index) return html`<${Message} title="Nothing can be shown." text=${failure} />`;
  if (!index) return html`<p class="message" role="status">Loading …</p>`;
  if (!wanted) return html`<${NothingYet} />`;
  if (!shown) {
    return problem
      ? html`<${Message} title="This evaluation cannot be shown." text=${problem} />`
      : html`<p class="message" role="status">Loading …</p>`;
  }
  return html`<${Evaluated}
    ...${{ source, index, wanted, shown, isLoading, problem: problem ?? failure, state, setState }}
  />`;
}

/**
 * What there is; in TensorBoard, looked at again and again.
 * @param {Source} source
 * @returns {[Index | null, string | null]} and what went wrong the last time
 */
function useIndex(source) {
  const [index, setIndex] = useState(/** @type {Index | null} */ (null));
  const [failure, setFailure] = useState(/** @type {string | null} */ (null));
  useEffect(() => {
    let before = "";
    const load = async () => {
      // A tab of TensorBoard that is not shown has no width.
      if (before && (document.hidden || !document.documentElement.clientWidth)) return;
      try {
        const loaded = await source.index();
        setFailure(null);
        const text = JSON.stringify(loaded);
        if (text !== before) setIndex(loaded);
        before = text;
      } catch (error) {
        setFailure(/** @type {Error} */ (error).message);
      }
    };
    load();
    if (!inTensorBoard()) return undefined;
    const timer = setInterval(load, RELOAD_MS);
    return () => clearInterval(timer);
  }, [source]);
  return [index, failure];
}

/**
 * The run and evaluation that a state means; null if there is none at all.
 * @param {Index} index
 * @param {State} state
 * @returns {{run: string, entry: IndexedEvaluation, type: "bbox" | "segm"} | null}
 */
function chosenEvaluation(index, state) {
  const hasTables = (/** @type {Index["runs"][0]} */ run) => run.evaluations.some(({ has_objects }) => has_objects);
  const runs = index.runs.filter(({ evaluations }) => evaluations.length);
  const run = runs.find(({ name }) => name === state.run) ?? runs.find(hasTables) ?? runs[0];
  if (!run) return null;
  const entry =
    run.evaluations.find(({ step }) => step === state.step) ??
    run.evaluations.findLast(({ has_objects }) => has_objects) ??
    run.evaluations[run.evaluations.length - 1];
  return { run: run.name, entry, type: entry.iou_types.includes(state.type) ? state.type : entry.iou_types[0] };
}

/**
 * Loads an evaluation. The one before stays until it is there; of the first, the metrics come before the table.
 * @param {Source} source
 * @param {{run: string, entry: IndexedEvaluation, type: "bbox" | "segm"} | null} wanted
 * @returns {[Shown | null, boolean, string | null]} the evaluation, whether another is on its way, and what went wrong
 */
function useEvaluation(source, wanted) {
  const [shown, setShown] = useState(/** @type {Shown | null} */ (null));
  const [problem, setProblem] = useState(/** @type {string | null} */ (null));
  const { run, entry, type } = wanted ?? {};
  const [step, hasObjects] = [entry?.step, entry?.has_objects];
  useEffect(() => {
    if (run === undefined || entry === undefined || type === undefined) return undefined;
    let isWanted = true;
    setProblem(null);
    const loaded = source.evaluation(run, entry.step);
    loaded.then(
      (evaluation) => isWanted && setShown((before) => before ?? { run, entry, type, evaluation, table: undefined }),
      () => {}, // told below
    );
    Promise.all([loaded, hasObjects ? source.objects(run, entry.step, type) : null])
      .then(([evaluation, table]) => isWanted && setShown({ run, entry, type, evaluation, table }))
      .catch((error) => isWanted && setProblem(error.message));
    return () => {
      isWanted = false;
    };
  }, [source, run, step, type, hasObjects]);
  const isLoading = !!shown && (shown.run !== run || shown.entry.step !== step || shown.type !== type) && !problem;
  return [shown, isLoading, problem];
}

/**
 * The page with an evaluation.
 * @param {{source: Source, index: Index, wanted: NonNullable<ReturnType<typeof chosenEvaluation>>, shown: Shown,
 *   isLoading: boolean, problem: string | null, state: State, setState: (change: Partial<State>) => void}} props
 */
function Evaluated({ source, index, wanted, shown, isLoading, problem, state, setState }) {
  const { table, evaluation, type } = shown;
  // A link may have the category or image of another evaluation.
  const category = table && state.category !== null && state.category < table.categories.length ? state.category : null;
  const image = table && state.image !== null && state.image < table.images.length ? state.image : null;
  const checked = { ...state, category, image, type, run: shown.run, step: shown.entry.step };
  const [minArea, maxArea] = SIZES[state.size];
  const best = useMemo(
    () => (table ? bestF1(cuts(table, { confidence: 0, iou: state.iou, category, minArea, maxArea })) : null),
    [table, state.iou, category, minArea, maxArea],
  );
  const operatingPoint = evaluation.operating_point?.confidence ?? best?.confidence ?? 0.5;
  const confidence = state.confidence ?? operatingPoint;
  const choice = useMemo(
    () => ({ confidence, iou: state.iou, category, minArea, maxArea }),
    [confidence, state.iou, category, minArea, maxArea],
  );
  const evaluations = index.runs.find(({ name }) => name === shown.run)?.evaluations ?? [];
  const props = { table, evaluation, choice, state: checked, setState, source, evaluations, index };
  const View = COMPONENTS[/** @type {keyof typeof COMPONENTS} */ (state.view)];
  return html`
    <header class="controls">
      <div class="row">
        <${RunAndStep} index=${index} wanted=${wanted} setState=${setState} />
      </div>
      ${table === undefined && html`<div class="row hint" role="status">Loading the objects …</div>`}
      ${table &&
      html`<div class="row">
        <${Confidence} ...${{ table, confidence, operatingPoint, best, state, setState }} />
        <${Filters} ...${{ table, entry: shown.entry, state: checked, setState }} />
      </div>`}
      <${Tabs} view=${state.view} setState=${setState} />
    </header>
    ${problem && html`<p class="problem" role="alert">${problem}</p>`}
    <div id="view" role="tabpanel" aria-labelledby=${`tab-${state.view}`} class=${isLoading ? "loading" : ""} aria-busy=${isLoading}>
      ${table || state.view === "overview"
        ? html`<${View} ...${props} />`
        : table === null
          ? html`<${NoTable} ...${{ evaluations, setState }} />`
          : !problem && html`<p class="message" role="status">Loading …</p>`}
    </div>
  `;
}

/**
 * @param {{index: Index, wanted: NonNullable<ReturnType<typeof chosenEvaluation>>,
 *   setState: (change: Partial<State>) => void}} props
 */
function RunAndStep({ index, wanted, setState }) {
  const evaluations = index.runs.find(({ name }) => name === wanted.run)?.evaluations ?? [];
  const at = evaluations.indexOf(wanted.entry);
  const choose = (/** @type {number} */ to) => setState({ step: evaluations[to].step });
  return html`
    <label class="control">
      <span>Run</span>
      ${index.runs.length > 1
        ? html`<select
            value=${String(index.runs.findIndex(({ name }) => name === wanted.run))}
            onChange=${(/** @type {any} */ event) =>
              setState({ run: index.runs[Number(event.target.value)].name, step: null, image: null, cell: null })}
          >
            ${index.runs.map(({ name }, position) => html`<option value=${String(position)}>${printable(name)}</option>`)}
          </select>`
        : html`<strong><${Name} of=${wanted.run} /></strong>`}
    </label>
    <div class="control grows">
      <label for="step">Step</label>
      ${evaluations.length > 1 &&
      html`<button type="button" class="small" disabled=${at === 0} onClick=${() => choose(at - 1)} aria-label="Evaluation before">‹</button>
        <input
          id="step"
          type="range"
          min="0"
          max=${evaluations.length - 1}
          step="1"
          value=${at}
          aria-valuetext=${`step ${wanted.entry.step}`}
          onInput=${(/** @type {any} */ event) => choose(Number(event.target.value))}
        />
        <button type="button" class="small" disabled=${at === evaluations.length - 1} onClick=${() => choose(at + 1)} aria-label="Evaluation after">›</button>`}
      <output for="step">${wanted.entry.step}</output>
      <span class="hint">${evaluations.length > 1 ? `${at + 1} of ${evaluations.length} evaluations` : "the only evaluation"}</span>
    </div>
  `;
}

/**
 * The slider of the confidence. The page follows once the browser has time, so that the slider never lags.
 * @param {{table: ObjectTable, confidence: number, operatingPoint: number,
 *   best: {confidence: number, f1: number} | null, state: State, setState: (change: Partial<State>) => void}} props
 */
function Confidence({ table, confidence, operatingPoint, best, state, setState }) {
  const [low, high] = useMemo(() => rangeOfScores(table), [table]);
  const [slid, setSlid] = useState(/** @type {number | null} */ (null));
  const timer = useRef(0);
  const slide = (/** @type {number} */ value) => {
    setSlid(value);
    clearTimeout(timer.current);
    timer.current = window.setTimeout(() => {
      setState({ confidence: value });
      setSlid(null);
    }, 50);
  };
  const value = slid ?? confidence;
  const place = (/** @type {number} */ of) => (of - low) / (high - low);
  return html`
    <div class="control grows">
      <label for="confidence">Confidence</label>
      <span class="slider">
        <input
          id="confidence"
          type="range"
          min=${low}
          max=${high}
          step="any"
          value=${value}
          aria-valuetext=${number(value)}
          onInput=${(/** @type {any} */ event) => slide(Number(event.target.value))}
          onKeyDown=${(/** @type {KeyboardEvent} */ event) => {
            // With the step "any", keys move by a tenth in some browsers.
            const by = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 }[event.key];
            if (!by) return;
            event.preventDefault();
            slide(Math.min(high, Math.max(low, value + (by * (high - low)) / 100)));
          }}
        />
        ${best && html`<i class="mark" style=${{ "--place": place(best.confidence) }} title=${`highest F1: ${number(best.f1)} at ${number(best.confidence)}`}></i>`}
      </span>
      <output for="confidence">${number(value)}</output>
      ${best &&
      html`<button type="button" class="small" disabled=${confidence === best.confidence} onClick=${() => setState({ confidence: best.confidence === operatingPoint ? null : best.confidence })}
        title=${`the confidence with the highest F1, ${number(best.f1)}, for this IoU, category and size`}>
        best F1 ${number(best.confidence)}
      </button>`}
      ${best?.confidence !== operatingPoint &&
      html`<button type="button" class="small" disabled=${state.confidence === null} onClick=${() => setState({ confidence: null })}
        title="the confidence that the evaluation has chosen">
        operating point ${number(operatingPoint)}
      </button>`}
    </div>
  `;
}

/**
 * The range of a slider: 0 to 1, or more if there are other scores.
 * @param {ObjectTable} table
 */
function rangeOfScores({ detections }) {
  let [low, high] = [0, 1];
  for (const score of detections.score) {
    if (score < low) low = score;
    if (score > high) high = score;
  }
  return [low, high];
}

/**
 * @param {{table: ObjectTable, entry: IndexedEvaluation, state: State, setState: (change: Partial<State>) => void}} props
 */
function Filters({ table, entry, state, setState }) {
  const select = (
    /** @type {string} */ label,
    /** @type {string} */ value,
    /** @type {[string, string][]} */ options,
    /** @type {(value: string) => Partial<State>} */ change,
    title = "",
  ) => html`<label class="control" title=${title}>
    <span>${label}</span>
    <select value=${value} onChange=${(/** @type {any} */ event) => setState(change(event.target.value))}>
      ${options.map(([of, text]) => html`<option value=${of}>${text}</option>`)}
    </select>
  </label>`;
  return html`
    ${entry.iou_types.length > 1 &&
    select("Match", state.type, [["bbox", "boxes"], ["segm", "masks"]], (type) => ({ type: type === "segm" ? "segm" : "bbox", cell: null }))}
    ${select("IoU", String(state.iou), IOU_THRESHOLDS.map((iou, at) => [String(at), iou.toFixed(2)]), (iou) => ({ iou: Number(iou) }),
      "from which overlap on a detection matches an object")}
    ${select(
      "Size", state.size,
      [["all", "all"], ["small", "small, to 32²"], ["medium", "medium, 32² to 96²"], ["large", "large, from 96²"]],
      (size) => ({ size: /** @type {State["size"]} */ (size) }),
      "objects of other areas in square pixels are ignored, and detections of other areas that match nothing",
    )}
    ${table.categories.length > 1 &&
    select(
      "Category", String(state.category ?? ""),
      [["", "all"], .../** @type {[string, string][]} */ (table.categories.map(({ name }, at) => [String(at), printable(name)]))],
      (category) => ({ category: category === "" ? null : Number(category) }),
    )}
  `;
}

/** @param {{view: string, setState: (change: Partial<State>) => void}} props */
function Tabs({ view, setState }) {
  const move = (/** @type {KeyboardEvent} */ event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const next = VIEWS[(VIEWS.indexOf(view) + by + VIEWS.length) % VIEWS.length];
    setState({ view: next });
    document.getElementById(`tab-${next}`)?.focus();
  };
  return html`<nav role="tablist" aria-label="Views" onKeyDown=${move}>
    ${VIEWS.map(
      (name) => html`<button
        type="button"
        role="tab"
        id=${`tab-${name}`}
        aria-selected=${String(name === view)}
        aria-controls="view"
        tabindex=${name === view ? 0 : -1}
        onClick=${() => setState({ view: name })}
      >
        ${TITLES[/** @type {keyof typeof TITLES} */ (name)]}
      </button>`,
    )}
  </nav>`;
}

/** @param {{title: string, text: string}} props */
const Message = ({ title, text }) => html`<section class="message" role="alert"><h1>${title}</h1><p>${text}</p></section>`;

const NothingYet = () => html`<section class="message">
  <h1>No evaluation yet</h1>
  <p>
    Detections are shown from the first evaluation on: od_eval writes its files (metrics, and the table of objects below
    “analysis”) beside the events that TensorBoard reads. Evaluations of another program have no such files.
  </p>
</section>`;

/** @param {{evaluations: IndexedEvaluation[], setState: (change: Partial<State>) => void}} props */
function NoTable({ evaluations, setState }) {
  const steps = evaluations.filter(({ has_objects }) => has_objects).map(({ step }) => step);
  return html`<section class="message">
    <h1>The table of objects of this evaluation is not there</h1>
    <p>
      The analyses of old evaluations are thinned out while all together take more than --analysis_max_mb, and
      --analysis=false writes none.
    </p>
    ${steps.length > 0 &&
    html`<p>
      It is there for step
      ${steps.map((step) => html` <button type="button" class="small" onClick=${() => setState({ step })}>${step}</button>`)}
    </p>`}
  </section>`;
}
