/**
 * The view "Compare": another evaluation, A, beside the one that is chosen above, B: metrics, objects that B fixed and
 * broke, and their images in pairs; and what became of objects through training.
 */

import { CHANGES, STATUSES, changes, objectsByStatus, picked, sameObjects } from "./changes.js";
import { Name, count, number, plural, printable } from "./format.js";
import { Pairs } from "./pairs.js";
import { FOUND, IOU_THRESHOLDS, MISSED, bestF1, cuts, judge } from "./table.js";
import { html, useEffect, useMemo, useState } from "./vendor/preact.js";

/**
 * @typedef {import("./changes.js").Change} Change
 * @typedef {import("./changes.js").Changes} Changes
 * @typedef {import("./changes.js").Comparison} Comparison
 * @typedef {import("./changes.js").Same} Same
 * @typedef {import("./changes.js").Score} Score
 * @typedef {import("./changes.js").Status} Status
 * @typedef {import("./source.js").Chosen} Chosen
 * @typedef {import("./source.js").Evaluation} Evaluation
 * @typedef {import("./source.js").Index} Index
 * @typedef {import("./source.js").Source} Source
 * @typedef {import("./state.js").State} State
 * @typedef {import("./table.js").Choice} Choice
 * @typedef {import("./table.js").ObjectTable} ObjectTable
 * @typedef {import("./pairs.js").Side} Side
 * @typedef {import("./pairs.js").Filter} Filter
 */

/** @type {Record<Change, {title: string, about: string}>} */
const TITLES = {
  fixed: { title: "Fixed", about: "objects that only B finds" },
  broke: { title: "Broke", about: "objects that only A finds" },
  fp_came: { title: "New FP", about: "false positives that only B has" },
  fp_went: { title: "Gone FP", about: "false positives that only A has" },
  both: { title: "Both find", about: "objects that A and B find" },
  neither: { title: "Neither finds", about: "objects that neither A nor B finds" },
};

/** @type {Record<Status, {title: string, about: string}>} */
const TITLES_OF_STATUSES = {
  learnt: { title: "Learnt", about: "missed at first, found in the newest evaluation" },
  lost: { title: "Lost", about: "found before, missed in the newest evaluation" },
  flickering: { title: "Flickering", about: "found and missed by turns" },
  never: { title: "Never found", about: "missed in all evaluations" },
  always: { title: "Always found", about: "found in all evaluations" },
};

const METRICS = /** @type {const} */ (["AP", "AP50", "F1"]);
const MOST_CATEGORIES = 8;

/**
 * @param {object} props
 * @param {ObjectTable} props.table of B
 * @param {Choice} props.choice
 * @param {State} props.state
 * @param {(change: Partial<State>) => void} props.setState
 * @param {Source} props.source
 * @param {Index} props.index
 */
export function Compare({ table, choice, state, setState, source, index }) {
  const b = useMemo(() => ({ run: String(state.run), step: Number(state.step) }), [state.run, state.step]);
  const a = otherEvaluation(index, state);
  const isItself = a?.run === b.run && a.step === b.step;
  const { type } = state;
  const compared = a && !isItself ? a : null;
  const other = useLoaded(compared && JSON.stringify([compared, type]), async () => {
    const { run, step } = /** @type {Chosen} */ (compared);
    const [evaluation, tableOfA] = await Promise.all([source.evaluation(run, step), source.objects(run, step, type)]);
    return { evaluation, table: tableOfA };
  });
  const tableOfA = other.value?.table ?? null;
  const same = useMemo(() => tableOfA && sameObjects(tableOfA, table), [tableOfA, table]);
  const confidenceOfA = other.value && (state.confidence ?? operatingPoint(other.value, choice));
  /** @type {Side} */
  const sideB = useMemo(() => ({ table, choice, judged: judge(table, choice) }), [table, choice]);
  const sideA = useMemo(() => {
    if (!tableOfA || !same || confidenceOfA === null) return null;
    const category = choice.category === null ? null : same.categoryOf[choice.category];
    const choiceOfA = { ...choice, confidence: confidenceOfA, category };
    return { table: tableOfA, choice: choiceOfA, judged: judge(tableOfA, choiceOfA) };
  }, [tableOfA, same, confidenceOfA, choice]);
  const found = useMemo(
    () => sideA && same && changes(sideA.table, table, same, sideA.judged, sideB.judged),
    [sideA, sideB, same],
  );

  const numSteps = index.runs.find(({ name }) => name === b.run)?.evaluations.length ?? 0;
  const history = useLoaded(JSON.stringify([b.run, type, numSteps]), () => source.history(b.run, type));
  const followed = useMemo(() => history.value && objectsByStatus(table, history.value), [table, history.value]);
  const filter = useMemo(() => chosenFilter(state.cell, found, followed?.rows ?? null, sideB), [state.cell, found, followed, sideB]);
  const open = state.image;
  const isPairOpen = open !== null && filter !== null;
  const choose = (/** @type {string} */ name) => setState({ cell: name === filter?.name ? null : name, image: null });

  return html`<section class="compare" aria-label="Compare">
    <${Sides} ...${{ index, a, b, type, setState }} />
    ${isItself && html`<p role="status">A and B are the same evaluation: choose another one to compare with.</p>`}
    ${!a && html`<p role="status">This is the only evaluation with a table of objects: there is nothing to compare it with.</p>`}
    ${other.problem && html`<p class="problem" role="alert">A cannot be shown: ${printable(other.problem)}</p>`}
    ${compared && !other.value && !other.problem && html`<p role="status">Loading A …</p>`}
    ${same && html`<${Differences} same=${same} table=${table} />`}
    <div class=${`compare-columns ${isPairOpen ? "compare-open" : ""}`}>
      <div class="compare-numbers" hidden=${isPairOpen}>
        ${found && sideA && html`<${ObjectCounts} ...${{ found, sideA, sideB, filter, choose }} />`}
        <${ThroughTraining} ...${{ history, followed, sideB, filter, choose }} />
        ${compared && html`<${Metrics} ...${{ a: compared, b, type, source, table, choice, setState }} />`}
      </div>
      ${filter &&
      html`<${Pairs} key=${`${a?.run} ${a?.step} ${b.run} ${b.step}`} ...${{ sideA, sideB, same, found, filter, source, state, a, open, setState }} />`}
    </div>
  </section>`;
}

/**
 * What the page compares with: what was chosen; by default the evaluation before in the same run, or the one after the
 * first; in a run with no other, the newest of the first other run. Null if there is none.
 * @param {Index} index
 * @param {State} state
 * @returns {Chosen | null}
 */
export function otherEvaluation(index, { run, step, type, other_run, other_step }) {
  const runs = comparable(index, type);
  const stepsOf = (/** @type {string | null} */ name) => runs.find((of) => of.name === name)?.evaluations.map((of) => of.step) ?? [];
  if (other_run !== null && other_run !== run && stepsOf(other_run).length) {
    const steps = stepsOf(other_run);
    return { run: other_run, step: other_step !== null && steps.includes(other_step) ? other_step : steps[steps.length - 1] };
  }
  const steps = stepsOf(run);
  if (other_step !== null && steps.includes(other_step)) return { run: String(run), step: other_step };
  const others = steps.filter((of) => of !== step);
  const before = others.findLast((of) => of < Number(step)) ?? others[0];
  if (before !== undefined) return { run: String(run), step: before };
  const next = runs.find(({ name }) => name !== run);
  return next ? { run: next.name, step: next.evaluations[next.evaluations.length - 1].step } : null;
}

/**
 * The runs with the evaluations that have objects of this kind; without runs that have none.
 * @param {Index} index
 * @param {"bbox" | "segm"} type
 */
function comparable(index, type) {
  return index.runs
    .map(({ name, evaluations }) => ({
      name,
      evaluations: evaluations.filter(({ has_objects, iou_types }) => has_objects && iou_types.includes(type)),
    }))
    .filter(({ evaluations }) => evaluations.length);
}

/**
 * The confidence of an evaluation that chose none: of its own operating point.
 * @param {{evaluation: Evaluation, table: ObjectTable}} of
 * @param {Choice} choice
 */
function operatingPoint({ evaluation, table }, choice) {
  return evaluation.operating_point?.confidence ?? bestF1(cuts(table, { ...choice, category: null }))?.confidence ?? 0.5;
}

/**
 * What is on its way, and what became of it.
 * @template T
 * @param {string | null} key what it depends on; null if nothing is wanted
 * @param {() => Promise<T>} load
 * @returns {{value: T | null, problem: string | null}} both null until it is there
 */
function useLoaded(key, load) {
  const [loaded, setLoaded] = useState(
    /** @type {{key: string | null, value: T | null, problem: string | null}} */ ({ key: null, value: null, problem: null }),
  );
  useEffect(() => {
    if (key === null) return undefined;
    let isWanted = true;
    load().then(
      (value) => isWanted && setLoaded({ key, value, problem: null }),
      (error) => isWanted && setLoaded({ key, value: null, problem: error.message }),
    );
    return () => {
      isWanted = false;
    };
  }, [key]);
  return loaded.key === key ? loaded : { value: null, problem: null };
}

/**
 * The filter that a name means; without one all changes, if there is something to compare with.
 * @param {string | null} name `change/fixed`, `history/lost`; null for all changes
 * @param {Changes | null} found
 * @param {Record<Status, number[]> | null} followed
 * @param {Side} sideB
 * @returns {Filter | null}
 */
function chosenFilter(name, found, followed, sideB) {
  const [kind, of] = (name ?? "").split("/");
  const status = STATUSES.find((one) => kind === "history" && one === of);
  if (status && followed) {
    const rows = { objects: followed[status].filter((row) => isCounted(sideB, row)), detectionsOfA: [], detectionsOfB: [] };
    return { name: `history/${status}`, title: TITLES_OF_STATUSES[status].title, rows };
  }
  if (!found) return null;
  const change = CHANGES.find((one) => kind === "change" && one === of);
  return change
    ? { name: `change/${change}`, title: TITLES[change].title, rows: picked(found, change) }
    : { name: "", title: "All changes", rows: picked(found, null) };
}

/**
 * Whether an object has to be found, of the category and size that are chosen.
 * @param {Side} side
 * @param {number} row
 */
function isCounted({ judged }, row) {
  return judged.objects[row] === FOUND || judged.objects[row] === MISSED;
}

// ---- What is compared -----------------------------------------------------------------------------------------------

/**
 * @param {object} props
 * @param {Index} props.index
 * @param {Chosen | null} props.a
 * @param {Chosen} props.b
 * @param {"bbox" | "segm"} props.type
 * @param {(change: Partial<State>) => void} props.setState
 */
function Sides({ index, a, b, type, setState }) {
  const runs = comparable(index, type);
  const evaluations = runs.find(({ name }) => name === a?.run)?.evaluations ?? [];
  const metric = type === "segm" ? "segm_AP" : "AP";
  const chooseRun = (/** @type {any} */ event) =>
    setState({ other_run: runs[Number(event.target.value)].name, other_step: null, image: null });
  const chooseStep = (/** @type {any} */ event) =>
    setState({ other_run: /** @type {Chosen} */ (a).run, other_step: Number(event.target.value), image: null });
  return html`<div class="compare-sides">
    ${a &&
    html`<div>
      <strong class="compare-letter">A</strong>
      <label>compared with${" "}
        <select value=${String(runs.findIndex(({ name }) => name === a.run))} onChange=${chooseRun} aria-label="Run of A">
          ${runs.map(({ name }, at) => html`<option value=${String(at)}>${printable(name)}</option>`)}
        </select>
      </label>
      <label>step${" "}
        <select value=${String(a.step)} onChange=${chooseStep} aria-label="Step of A">
          ${evaluations.map(({ step, metrics }) => html`<option value=${String(step)}>${step} (AP ${number(metrics[metric])})</option>`)}
        </select>
      </label>
    </div>`}
    <div><strong class="compare-letter">B</strong> <span>chosen above: <${Name} of=${b.run} />, step ${b.step}</span></div>
  </div>`;
}

/**
 * How the two evaluation sets differ; nothing if they do not.
 * @param {object} props
 * @param {Same} props.same
 * @param {ObjectTable} props.table of B
 */
function Differences({ same, table }) {
  const parts = [
    [same.imagesOnlyA, `${plural(same.imagesOnlyA, "image")} only in A`],
    [same.imagesOnlyB, `${plural(same.imagesOnlyB, "image")} only in B`],
    [
      same.imagesChanged,
      html`${plural(same.imagesChanged, "image")} with different objects (${count(same.objectsOnlyA)} only in A,
      ${" "}${count(same.objectsOnlyB)} only in B), the first: <${Name} of=${table.images[same.firstChanged]?.id ?? ""} />`,
    ],
  ].filter(([num]) => num);
  const categories = [...same.categoriesOnlyA.map((name) => ({ name, side: "A" })), ...same.categoriesOnlyB.map((name) => ({ name, side: "B" }))];
  if (!parts.length && !categories.length) return null;
  const num = same.isCompared.reduce((sum, is) => sum + is, 0);
  return html`<p class="problem compare-differences" role="status">
    The two are not of the same images and objects. Compared ${num === 1 ? "is" : "are"} ${count(num)} of
    ${" "}${plural(table.images.length, "image")} of B.
    ${parts.length > 0 && html` Left out: ${parts.map(([, text], at) => html`${at > 0 && "; "}${text}`)}.`}
    ${categories.length > 0 && html` Left out are categories that only one has: ${categories.slice(0, MOST_CATEGORIES).map(
      ({ name, side }, at) => html`${at > 0 && ", "}<${Name} of=${name} /> (${side})`,
    )}${categories.length > MOST_CATEGORIES && ` and ${categories.length - MOST_CATEGORIES} more`}.`}
  </p>`;
}

// ---- Numbers --------------------------------------------------------------------------------------------------------

/**
 * @param {object} props
 * @param {Changes} props.found
 * @param {Side} props.sideA
 * @param {Side} props.sideB
 * @param {Filter | null} props.filter
 * @param {(name: string) => void} props.choose
 */
function ObjectCounts({ found, sideA, sideB, filter, choose }) {
  const { fixed, broke, both, neither } = found;
  const num = fixed.length + broke.length + both.length + neither.length;
  return html`<section class="panel" aria-labelledby="compare-objects">
    <h2 id="compare-objects">B fixed ${count(fixed.length)} and broke ${count(broke.length)} of ${plural(num, "object")}</h2>
    <p class="hint">
      at confidence ${number(sideA.choice.confidence)} (A) and ${number(sideB.choice.confidence)} (B), IoU
      ${" "}${IOU_THRESHOLDS[sideB.choice.iou].toFixed(2)}. A click shows the images.
    </p>
    <div class="compare-counts">
      ${CHANGES.map(
        (change) => html`<${CountButton} key=${change} ...${{ name: `change/${change}`, num: found[change].length, ...TITLES[change], filter, choose }} />`,
      )}
    </div>
  </section>`;
}

/**
 * @param {object} props
 * @param {{value: import("./changes.js").History | null, problem: string | null}} props.history
 * @param {ReturnType<typeof objectsByStatus> | null} props.followed
 * @param {Side} props.sideB
 * @param {Filter | null} props.filter
 * @param {(name: string) => void} props.choose
 */
function ThroughTraining({ history, followed, sideB, filter, choose }) {
  const { value, problem } = history;
  const statuses = STATUSES.map((status) => ({ status, num: followed?.rows[status].filter((row) => isCounted(sideB, row)).length ?? 0 }));
  const numSteps = value?.steps.length ?? 0;
  return html`<section class="panel" aria-labelledby="compare-training">
    <h2 id="compare-training">Through training</h2>
    ${!value && html`<p role="status">${problem ? `This cannot be shown: ${printable(problem)}` : "Loading …"}</p>`}
    ${value && numSteps < 2 && html`<p>The run has one evaluation: there is nothing to follow yet.</p>`}
    ${numSteps > 1 &&
    followed &&
    html`<p class="hint">
        what became of the objects in ${numSteps} evaluations of B's run, each at its own best confidence and IoU 0.50
        ${value && value.num_evaluation_sets > 1 &&
        `; the evaluation set has changed: ${plural(value.num_not_in_all, "object")} ${value.num_not_in_all === 1 ? "is" : "are"} not in all of them, ${count(followed.numElsewhere)} not in this one`}
      </p>
      <div class="compare-counts">
        ${statuses.map(
          ({ status, num }) => html`<${CountButton} key=${status} ...${{ name: `history/${status}`, num, ...TITLES_OF_STATUSES[status], filter, choose }} />`,
        )}
      </div>`}
  </section>`;
}

/**
 * @param {object} props
 * @param {string} props.name of the filter
 * @param {number} props.num
 * @param {string} props.title
 * @param {string} props.about
 * @param {Filter | null} props.filter the chosen one
 * @param {(name: string) => void} props.choose
 */
function CountButton({ name, num, title, about, filter, choose }) {
  return html`<button type="button" class=${`compare-count compare-${name.replace("/", "-")}`} title=${about}
    aria-pressed=${String(filter?.name === name)} onClick=${() => choose(name)}>
    <strong>${count(num)}</strong> <span>${title}</span>
  </button>`;
}

/**
 * @param {object} props
 * @param {Chosen} props.a
 * @param {Chosen} props.b
 * @param {"bbox" | "segm"} props.type
 * @param {Source} props.source
 * @param {ObjectTable} props.table of B
 * @param {Choice} props.choice
 * @param {(change: Partial<State>) => void} props.setState
 */
function Metrics({ a, b, type, source, table, choice, setState }) {
  const { value, problem } = useLoaded(JSON.stringify([a, b, type]), () => source.comparison(a, b, type));
  return html`<section class="panel" aria-labelledby="compare-metrics" aria-busy=${String(!value && !problem)}>
    <h2 id="compare-metrics">Metrics</h2>
    ${!value && html`<p role="status">${problem ? `The metrics are not compared: ${printable(problem)}` : "Computing the differences and how far chance explains them …"}</p>`}
    ${value &&
    html`<p class="hint">
        of ${plural(value.num_images, "image")} and all sizes, whatever is chosen above. F1 is at IoU 0.50 and the
        ${" "}confidence with the highest F1 in these images, of each its own: ${number(value.confidence_a)} (A) and
        ${" "}${number(value.confidence_b)} (B). Intervals come from drawing the images anew.
      </p>
      <${ScoreTable} heading="Metric" rows=${METRICS.map((metric) => ({ head: metric, score: value[metric] }))} />
      ${Object.keys(value.per_category).length > 1 && html`<${Categories} ...${{ comparison: value, table, choice, setState }} />`}`}
  </section>`;
}

/**
 * @param {object} props
 * @param {Comparison} props.comparison
 * @param {ObjectTable} props.table
 * @param {Choice} props.choice
 * @param {(change: Partial<State>) => void} props.setState
 */
function Categories({ comparison, table, choice, setState }) {
  const [metric, setMetric] = useState(/** @type {typeof METRICS[number]} */ ("AP"));
  const [isWhole, setWhole] = useState(false);
  const rows = Object.entries(comparison.per_category)
    .map(([name, of]) => ({ name, score: of[metric] }))
    .sort((one, two) => (one.score.difference ?? Infinity) - (two.score.difference ?? Infinity) || 0);
  const tested = rows.filter(({ score }) => score.is_distinguishable !== null);
  const distinct = tested.filter(({ score }) => score.is_distinguishable);
  const shown = isWhole ? rows : rows.slice(0, MOST_CATEGORIES);
  const head = (/** @type {string} */ name) => {
    const category = table.categories.findIndex((of) => of.name === name);
    if (category < 0) return html`<${Name} of=${name} />`;
    return html`<button type="button" class="link" aria-pressed=${String(category === choice.category)}
      onClick=${() => setState({ category: category === choice.category ? null : category, image: null })}><${Name} of=${name} /></button>`;
  };
  return html`
    <h3>Categories, the worst change first</h3>
    <div class="compare-choice" role="group" aria-label="Metric of the categories">
      ${METRICS.map((of) => html`<button type="button" class="small" aria-pressed=${String(of === metric)} onClick=${() => setMetric(of)}>${of}</button>`)}
    </div>
    <${ScoreTable} heading="Category" rows=${shown.map(({ name, score }) => ({ head: head(name), score }))} />
    ${rows.length > MOST_CATEGORIES &&
    html`<button type="button" class="small" aria-expanded=${String(isWhole)} onClick=${() => setWhole(!isWhole)}>
      ${isWhole ? `the worst ${MOST_CATEGORIES}` : `all ${rows.length}`}
    </button>`}
    ${tested.length > 1 &&
    html`<p class="hint compare-after">
      In ${distinct.length} of ${tested.length} categories ${metric} differs more than chance explains; if A and B were
      equally good, it would still seem so in about one of 20.
    </p>`}
  `;
}

/**
 * @param {object} props
 * @param {string} props.heading
 * @param {{head: any, score: Score}[]} props.rows
 */
function ScoreTable({ heading, rows }) {
  return html`<div class="scrolls">
    <table class="numbers compare-scores">
      <thead>
        <tr>
          <th scope="col">${heading}</th>
          <th scope="col">A</th>
          <th scope="col">B</th>
          <th scope="col">B − A</th>
          <th scope="col">95% interval</th>
          <th scope="col">By chance?</th>
        </tr>
      </thead>
      <tbody>
        ${rows.map(
          ({ head, score: { a, b, difference, interval, is_distinguishable } }) => html`<tr>
            <th scope="row">${head}</th>
            <td>${number(a)}</td>
            <td>${number(b)}</td>
            <td class=${is_distinguishable ? "compare-distinct" : ""}>${signed(difference)}</td>
            <td>${interval ? `${signed(interval[0])} to ${signed(interval[1])}` : "–"}</td>
            <td>${is_distinguishable === null ? "not known" : is_distinguishable ? "no" : "maybe"}</td>
          </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

/**
 * A difference with its sign.
 * @param {number | null} value
 */
function signed(value) {
  if (value === null) return "–";
  const text = number(Math.abs(value));
  return Number(text) === 0 ? text : `${value < 0 ? "−" : "+"}${text}`;
}
