/** The page: what is chosen above, and a view of it below. */

import { Compare } from "./compare.js";
import { Curves } from "./curves.js";
import { Name, number, printable } from "./format.js";
import { Images } from "./images.js";
import { Labels } from "./labels.js";
import { Matrix, PixelMatrix } from "./matrix.js";
import { Overview } from "./overview.js";
import { PixelImages } from "./pixel_images.js";
import { PixelOverview } from "./pixel_overview.js";
import { SIZES, VIEWS, inTensorBoard, useAppState } from "./state.js";
import { IOU_THRESHOLDS, bestF1, cuts } from "./table.js";
import { html, render, useEffect, useMemo, useRef, useState } from "./vendor/preact.js";

/**
 * @typedef {import("./source.js").Source} Source
 * @typedef {import("./source.js").Index} Index
 * @typedef {import("./source.js").IndexedEvaluation} IndexedEvaluation
 * @typedef {import("./source.js").Evaluation} Evaluation
 * @typedef {import("./state.js").State} State
 * @typedef {import("./segmentation.js").Segmentation} Segmentation
 * @typedef {import("./table.js").ObjectTable} ObjectTable
 * @typedef {import("./table.js").Choice} Choice
 *
 * @typedef {object} Wanted
 * @property {string} run
 * @property {IndexedEvaluation} entry
 * @property {"bbox" | "segm"} type
 *
 * @typedef {object} Loaded An evaluation that is loaded: objects, or pixels.
 * @property {Evaluation} evaluation
 * @property {ObjectTable | null} [table] null if it was removed, or never written; undefined while it is on its way, of
 *   the first evaluation that is shown
 * @property {Segmentation | null} [segmentation] the same
 * @typedef {Wanted & Loaded} Shown
 *
 * @typedef {object} ViewProps What each view is given.
 * @property {ObjectTable} table
 * @property {Evaluation} evaluation
 * @property {Choice} choice
 * @property {State} state
 * @property {(change: Partial<State>) => void} setState
 * @property {Source} source
 *
 * @typedef {object} PixelViewProps What each view of classes of pixels is given.
 * @property {Segmentation} segmentation
 * @property {Evaluation} evaluation
 * @property {State} state
 * @property {(change: Partial<State>) => void} setState
 * @property {Source} source
 * @property {IndexedEvaluation[]} evaluations of the run
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
const PIXEL_COMPONENTS = { overview: PixelOverview, matrix: PixelMatrix, images: PixelImages };

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
 * @returns {Wanted | null}
 */
function chosenEvaluation(index, state) {
  const hasFiles = (/** @type {IndexedEvaluation} */ entry) => entry.has_objects || entry.has_pixels;
  const runs = index.runs.filter(({ evaluations }) => evaluations.length);
  const run =
    runs.find(({ name }) => name === state.run) ?? runs.find(({ evaluations }) => evaluations.some(hasFiles)) ?? runs[0];
  if (!run) return null;
  const entry =
    run.evaluations.find(({ step }) => step === state.step) ??
    run.evaluations.findLast(hasFiles) ??
    run.evaluations[run.evaluations.length - 1];
  const type = entry.iou_types.includes(state.type) ? state.type : (entry.iou_types[0] ?? "bbox");
  return { run: run.name, entry, type };
}

/**
 * Whether an evaluation is of semantic segmentation: of classes of pixels, and not of objects.
 * @param {IndexedEvaluation} entry
 */
const isOfPixels = ({ iou_types, has_segmentation }) => has_segmentation && !iou_types.length;

/**
 * Loads an evaluation. The one before stays until it is there; of the first, the metrics come before the rest.
 * @param {Source} source
 * @param {Wanted | null} wanted
 * @returns {[Shown | null, boolean, string | null]} the evaluation, whether another is on its way, and what went wrong
 */
function useEvaluation(source, wanted) {
  const [shown, setShown] = useState(/** @type {Shown | null} */ (null));
  const [problem, setProblem] = useState(/** @type {string | null} */ (null));
  const { run, entry, type } = wanted ?? {};
  const [step, hasFiles] = [entry?.step, entry?.has_objects || entry?.has_pixels];
  useEffect(() => {
    if (wanted === null) return undefined;
    let isWanted = true;
    setProblem(null);
    const loaded = source.evaluation(wanted.run, wanted.entry.step);
    loaded.then(
      (evaluation) => isWanted && setShown((before) => before ?? { ...wanted, evaluation }),
      () => {}, // told below
    );
    Promise.all([loaded, filesOf(source, wanted)])
      .then(([evaluation, files]) => isWanted && setShown({ ...wanted, evaluation, ...files }))
      .catch((error) => isWanted && setProblem(error.message));
    return () => {
      isWanted = false;
    };
  }, [source, run, step, type, hasFiles]);
  const isLoading = !!shown && (shown.run !== run || shown.entry.step !== step || shown.type !== type) && !problem;
  return [shown, isLoading, problem];
}

/**
 * @param {Source} source
 * @param {Wanted} wanted
 * @returns {Promise<Pick<Loaded, "table" | "segmentation">>}
 */
async function filesOf(source, { run, entry, type }) {
  if (isOfPixels(entry)) return { segmentation: entry.has_pixels ? await source.segmentation(run, entry.step) : null };
  return { table: entry.has_objects ? await source.objects(run, entry.step, type) : null };
}

/**
 * @typedef {object} EvaluatedProps
 * @property {Source} source
 * @property {Index} index
 * @property {Wanted} wanted
 * @property {Shown} shown
 * @property {boolean} isLoading
 * @property {string | null} problem
 * @property {State} state
 * @property {(change: Partial<State>) => void} setState
 */

/**
 * The page with an evaluation.
 * @param {EvaluatedProps} props
 */
const Evaluated = (props) =>
  isOfPixels(props.shown.entry) ? html`<${EvaluatedPixels} ...${props} />` : html`<${EvaluatedObjects} ...${props} />`;

/** @param {EvaluatedProps} props */
function EvaluatedObjects(props) {
  const { source, index, shown, problem, state, setState } = props;
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
  const evaluations = evaluationsOf(index, shown.run);
  const given = { table, evaluation, choice, state: checked, setState, source, evaluations, index };
  const View = COMPONENTS[/** @type {keyof typeof COMPONENTS} */ (state.view)];
  const controls = html`
    ${table === undefined && html`<div class="row hint" role="status">Loading the objects …</div>`}
    ${table &&
    html`<div class="row">
      <${Confidence} ...${{ table, confidence, operatingPoint, best, state, setState }} />
      <${Filters} ...${{ table, entry: shown.entry, state: checked, setState }} />
    </div>`}
  `;
  return html`<${Frame} ...${{ ...props, views: VIEWS, view: state.view, controls }}>
    ${table || state.view === "overview"
      ? html`<${View} ...${given} />`
      : table === null
        ? html`<${NoFiles} title="The table of objects of this evaluation is not there"
            steps=${stepsWith(evaluations, "has_objects")} setState=${setState} />`
        : !problem && html`<p class="message" role="status">Loading …</p>`}
  <//>`;
}

/** @param {EvaluatedProps} props */
function EvaluatedPixels(props) {
  const { source, index, shown, problem, state, setState } = props;
  const { segmentation, evaluation } = shown;
  const { classes = [], images = [] } = segmentation ?? {};
  // A link may have the class, the image or the view of another evaluation.
  const category = state.category !== null && state.category < classes.length ? state.category : null;
  const image = state.image !== null && state.image < images.length ? state.image : null;
  const checked = { ...state, category, image, run: shown.run, step: shown.entry.step };
  const view = /** @type {keyof typeof PIXEL_COMPONENTS} */ (state.view in PIXEL_COMPONENTS ? state.view : "overview");
  const evaluations = evaluationsOf(index, shown.run);
  const given = { segmentation, evaluation, state: checked, setState, source, evaluations };
  const controls = html`
    ${segmentation === undefined && html`<div class="row hint" role="status">Loading the pixels …</div>`}
    ${classes.length > 0 &&
    html`<div class="row"><${Category} label="Class" all=${classes} chosen=${category} setState=${setState} /></div>`}
  `;
  return html`<${Frame} ...${{ ...props, views: Object.keys(PIXEL_COMPONENTS), view, controls }}>
    ${segmentation || view === "overview"
      ? html`<${PIXEL_COMPONENTS[view]} ...${given} />`
      : segmentation === null
        ? html`<${NoFiles} title="The analysis of pixels of this evaluation is not there"
            steps=${stepsWith(evaluations, "has_pixels")} setState=${setState} />`
        : !problem && html`<p class="message" role="status">Loading …</p>`}
  <//>`;
}

/**
 * @param {Index} index
 * @param {string} run
 */
const evaluationsOf = (index, run) => index.runs.find(({ name }) => name === run)?.evaluations ?? [];

/**
 * @param {IndexedEvaluation[]} evaluations
 * @param {"has_objects" | "has_pixels"} files
 */
const stepsWith = (evaluations, files) => evaluations.filter((entry) => entry[files]).map(({ step }) => step);

/**
 * What is chosen above, and a view below.
 * @param {EvaluatedProps & {views: string[], view: string, controls: any, children?: any}} props
 */
function Frame({ index, wanted, isLoading, problem, setState, views, view, controls, children }) {
  return html`
    <header class="controls">
      <div class="row">
        <${RunAndStep} index=${index} wanted=${wanted} setState=${setState} />
      </div>
      ${controls}
      <${Tabs} ...${{ views, view, setState }} />
    </header>
    ${problem && html`<p class="problem" role="alert">${problem}</p>`}
    <div id="view" role="tabpanel" aria-labelledby=${`tab-${view}`} class=${isLoading ? "loading" : ""} aria-busy=${isLoading}>
      ${children}
    </div>
  `;
}

/**
 * @param {{index: Index, wanted: Wanted, setState: (change: Partial<State>) => void}} props
 */
function RunAndStep({ index, wanted, setState }) {
  const evaluations = evaluationsOf(index, wanted.run);
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
 * @param {{label: string, value: string, options: [string, string][], choose: (value: string) => void, title?: string}}
 *   props options: values and their texts
 */
const Select = ({ label, value, options, choose, title = "" }) => html`<label class="control" title=${title}>
  <span>${label}</span>
  <select value=${value} onChange=${(/** @type {any} */ event) => choose(event.target.value)}>
    ${options.map(([of, text]) => html`<option value=${of}>${text}</option>`)}
  </select>
</label>`;

/**
 * The only category, or class, that counts.
 * @param {{label: string, all: {name: string}[], chosen: number | null, setState: (change: Partial<State>) => void}} props
 */
function Category({ label, all, chosen, setState }) {
  if (all.length < 2) return null;
  const options = [["", "all"], ...all.map(({ name }, at) => [String(at), printable(name)])];
  const choose = (/** @type {string} */ category) => setState({ category: category === "" ? null : Number(category) });
  return html`<${Select} value=${String(chosen ?? "")} ...${{ label, options, choose }} />`;
}

/**
 * @param {{table: ObjectTable, entry: IndexedEvaluation, state: State, setState: (change: Partial<State>) => void}} props
 */
const Filters = ({ table, entry, state, setState }) => html`
  ${entry.iou_types.length > 1 &&
  html`<${Select}
    label="Match"
    value=${state.type}
    options=${[["bbox", "boxes"], ["segm", "masks"]]}
    choose=${(/** @type {State["type"]} */ type) => setState({ type, cell: null })}
  />`}
  <${Select}
    label="IoU"
    value=${String(state.iou)}
    options=${IOU_THRESHOLDS.map((iou, at) => [String(at), iou.toFixed(2)])}
    choose=${(/** @type {string} */ iou) => setState({ iou: Number(iou) })}
    title="from which overlap on a detection matches an object"
  />
  <${Select}
    label="Size"
    value=${state.size}
    options=${[["all", "all"], ["small", "small, to 32²"], ["medium", "medium, 32² to 96²"], ["large", "large, from 96²"]]}
    choose=${(/** @type {State["size"]} */ size) => setState({ size })}
    title="objects of other areas in square pixels are ignored, and detections of other areas that match nothing"
  />
  <${Category} label="Category" all=${table.categories} chosen=${state.category} setState=${setState} />
`;

/** @param {{views: string[], view: string, setState: (change: Partial<State>) => void}} props */
function Tabs({ views, view, setState }) {
  const move = (/** @type {KeyboardEvent} */ event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const next = views[(views.indexOf(view) + by + views.length) % views.length];
    setState({ view: next });
    document.getElementById(`tab-${next}`)?.focus();
  };
  return html`<nav role="tablist" aria-label="Views" onKeyDown=${move}>
    ${views.map(
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

/** @param {{title: string, steps: number[], setState: (change: Partial<State>) => void}} props steps: that have them */
function NoFiles({ title, steps, setState }) {
  return html`<section class="message">
    <h1>${title}</h1>
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
