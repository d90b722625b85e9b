/**
 * The view "Labels": labels that are probably wrong, one at a time, to decide on. The decisions are downloaded as a file.
 */

import { Name, count, isolated, number } from "./format.js";
import { Legend, Picture, useKeys, useRoom } from "./picture_view.js";
import {
  DECISIONS,
  TITLES,
  decidedJson,
  filtered,
  isJudge,
  nextUndecided,
  sentence,
  shapesOfSuspect,
  suspectsOf,
  tally,
} from "./suspects.js";
import { judge } from "./table.js";
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "./vendor/preact.js";

/**
 * @typedef {import("./table.js").ObjectTable} ObjectTable
 * @typedef {import("./state.js").State} State
 * @typedef {import("./suspects.js").Suspects} Suspects
 * @typedef {import("./suspects.js").Suspect} Suspect
 * @typedef {import("./suspects.js").Decision} Decision
 * @typedef {import("./suspects.js").Decisions} Decisions
 */

const FILE_NAME = "label_decisions.json";
/** Of a suspect of the kind "missing", there is no label to be right. */
const ANSWERS = {
  yes: { key: "y", text: "Yes, it is wrong", ofMissing: "Yes, a label is missing", said: "yes" },
  no: { key: "n", text: "No, the label is right", ofMissing: "No, nothing is missing", said: "no" },
  unsure: { key: "u", text: "Unsure", ofMissing: "Unsure", said: "unsure" },
};

/** @param {import("./app.js").ViewProps} props */
export function Labels(props) {
  const { source, state } = props;
  const { run, step, type } = state;
  const [loaded, setLoaded] = useState(/** @type {{table: ObjectTable, data: Suspects} | null} */ (null));
  const [problem, setProblem] = useState(/** @type {string | null} */ (null));
  const { table } = props;
  useEffect(() => {
    let isCurrent = true;
    setProblem(null);
    source
      .suspects(String(run), Number(step), type)
      .then((data) => isCurrent && setLoaded({ table, data }))
      .catch((error) => isCurrent && setProblem(error.message));
    return () => {
      isCurrent = false;
    };
  }, [source, run, step, type, table]);
  if (problem) return html`<p class="message" role="alert">The suspected labels cannot be shown: ${problem}</p>`;
  // Those of another table are on their way.
  if (loaded?.table !== table) return html`<p class="message" role="status">Loading …</p>`;
  if (!loaded.data.annotations.length) return html`<${None} table=${table} data=${loaded.data} />`;
  return html`<${Found} ...${props} data=${loaded.data} />`;
}

/** @param {{table: ObjectTable, data: Suspects}} props */
const None = ({ table, data }) => html`<section class="message">
  <h1>No label is suspected</h1>
  <p>
    ${isJudge(table)
      ? `There are no labels that confident detections contradict, or that none finds${restsOn(data)}.`
      : "No detection of this evaluation is right, so the detector is no judge of labels. Look again after more training."}
  </p>
</section>`;

/** @param {import("./app.js").ViewProps & {data: Suspects}} props */
function Found({ table, evaluation, choice, state, setState, source, data }) {
  const suspects = useMemo(() => suspectsOf(table, data), [table, data]);
  const [decisions, setDecisions, isKept] = useDecisions(`${state.run}/${evaluation.dataset?.fingerprint}`);
  const category = choice.category === null ? null : table.categories[choice.category].name;
  const kind = state.kind !== null && Object.hasOwn(TITLES, state.kind) ? state.kind : null;
  const among = useMemo(() => filtered(suspects, kind, category), [suspects, kind, category]);
  const at =
    state.suspect !== null && among.includes(state.suspect)
      ? state.suspect
      : (nextUndecided(suspects, among, -1, decisions) ?? among[0] ?? null);
  const place = at === null ? -1 : among.indexOf(at);
  const show = (/** @type {number | null | undefined} */ suspect) => setState({ suspect: suspect ?? at });
  const decide = (/** @type {Decision} */ decision) => {
    if (at === null) return;
    const { [suspects[at].key]: before, ...others } = decisions;
    // The same again takes it back.
    const after = before === decision ? others : { ...others, [suspects[at].key]: decision };
    setDecisions(after);
    show(before === decision ? at : nextUndecided(suspects, among, at, after));
  };
  useKeys({
    ArrowLeft: () => show(among[place - 1]),
    ArrowRight: () => show(among[place + 1]),
    ...Object.fromEntries(DECISIONS.map((decision) => [ANSWERS[decision].key, () => decide(decision)])),
  });
  const ofAll = tally(suspects, [...suspects.keys()], decisions);
  const here = tally(suspects, among, decisions);
  return html`<section class="labels" aria-label="Suspected label errors">
    <div class="labels-above">
      <label class="control">
        <span>Suspected</span>
        <select value=${kind ?? ""} onChange=${(/** @type {any} */ event) => setState({ kind: event.target.value || null, suspect: null })}>
          <option value="">all kinds (${count(suspects.length)})</option>
          ${Object.entries(TITLES).map(([of, title]) => {
            const num = suspects.filter((suspect) => suspect.kind === of).length;
            return html`<option value=${of} disabled=${num === 0}>${title} (${count(num)})</option>`;
          })}
        </select>
      </label>
      <strong role="status">
        ${count(here.decided)} of ${count(among.length)} decided: ${here.yes} yes, ${here.no} no, ${here.unsure} unsure
      </strong>
      <button type="button" class="small" disabled=${ofAll.decided === 0}
        onClick=${() => download(decidedJson(data, suspects, decisions))}
        title="The decisions in COCO's format: an annotation, what is proposed, for each, with attributes.decision">
        Download ${count(ofAll.decided)} decision${ofAll.decided === 1 ? "" : "s"} (COCO)
      </button>
      ${!isKept && html`<span class="hint" role="alert">This browser keeps nothing for the page: the decisions last until it is closed or loaded again.</span>`}
    </div>
    <p class="hint">
      Labels that confident detections contradict, or that none finds${restsOn(data)}.
      ${data.num_found > data.annotations.length && ` The ${count(data.annotations.length)} most suspicious of ${count(data.num_found)}.`}
    </p>
    ${at === null
      ? html`<p>None of this kind and category.</p>`
      : html`<div class="labels-columns">
          <${List} ...${{ suspects, among, at, decisions, show }} />
          <${One} ...${{ table, choice, state, source, data, suspect: suspects[at], decision: decisions[suspects[at].key], decide }}
            previous=${place > 0 ? () => show(among[place - 1]) : null}
            next=${place + 1 < among.length ? () => show(among[place + 1]) : null}
            place=${`${count(place + 1)} of ${count(among.length)}`} />
        </div>`}
  </section>`;
}

/**
 * What suspects rest on, as the end of a sentence.
 * @param {Suspects} data
 */
const restsOn = ({ num_evaluations: num }) =>
  num > 1 ? `: missing ones and those that mark nothing over ${count(num)} evaluations, the others in this one` : ", in this evaluation";

/**
 * All suspects, to jump to one.
 * @param {{suspects: Suspect[], among: number[], at: number, decisions: Decisions, show: (at: number) => void}} props
 */
function List({ suspects, among, at, decisions, show }) {
  const list = useRef(/** @type {HTMLElement | null} */ (null));
  useLayoutEffect(() => {
    const [scroller, current] = [list.current, list.current?.querySelector("[aria-current]")];
    if (!scroller || !current) return;
    const [around, inside] = [scroller.getBoundingClientRect(), current.getBoundingClientRect()];
    if (inside.top < around.top) scroller.scrollTop += inside.top - around.top;
    if (inside.bottom > around.bottom) scroller.scrollTop += inside.bottom - around.bottom;
  }, [at, among]);
  return html`<ol class="labels-list" ref=${list} aria-label="All suspects">
    ${among.map((index) => {
      const { kind, key, labeled, proposed, annotation } = suspects[index];
      const decision = Object.hasOwn(decisions, key) ? decisions[key] : null;
      return html`<li key=${index}>
        <button type="button" aria-current=${index === at ? "true" : undefined} onClick=${() => show(index)}>
          <span class="labels-kind">${TITLES[kind]}</span>
          <span class="labels-names" title=${[labeled ?? proposed, ...(kind === "class" ? [proposed] : [])].map(isolated).join(" → ")}>
            <${Name} of=${labeled ?? proposed} />${kind === "class" && html` → <${Name} of=${proposed} />`}
          </span>
          <span class="labels-suspicion" title="suspicion">${annotation.attributes.suspicion.toFixed(2)}</span>
          <span class=${`labels-decision ${decision ?? ""}`}>${decision ? ANSWERS[decision].said : ""}</span>
        </button>
      </li>`;
    })}
  </ol>`;
}

/**
 * One suspect, large, with the buttons to decide.
 * @param {Pick<import("./app.js").ViewProps, "table" | "choice" | "state" | "source"> & {data: Suspects,
 *   suspect: Suspect, decision: Decision | undefined, decide: (decision: Decision) => void,
 *   previous: (() => void) | null, next: (() => void) | null, place: string}} props
 */
function One({ table, choice, state, source, data, suspect, decision, decide, previous, next, place }) {
  const judged = useMemo(() => judge(table, { ...choice, category: null }), [table, choice]);
  const [focus, shapes] = useMemo(() => shapesOfSuspect(table, judged, choice.iou, suspect), [table, judged, choice.iou, suspect]);
  const scene = { table, judged, choice, focus, source, state, evaluations: [] };
  const [article, room] = useRoom();
  const { id, has_picture: hasPicture } = table.images[suspect.image];
  const { kind } = suspect;
  return html`<article class="images-large labels-one" ref=${article} aria-label="The suspected label">
    <header>
      <button type="button" class="small" disabled=${!previous} onClick=${previous} title="Previous (left arrow key)" aria-label="Previous suspect">←</button>
      <button type="button" class="small" disabled=${!next} onClick=${next} title="Next (right arrow key)" aria-label="Next suspect">→</button>
      <h2 aria-live="polite">${sentence(suspect, data.num_evaluations)}</h2>
      <span class="images-place">${place}</span>
    </header>
    <div class="labels-answers" role="group" aria-label="Is the label wrong?">
      ${DECISIONS.map((of) => {
        const { key, text, ofMissing } = ANSWERS[of];
        return html`<button type="button" class=${`labels-answer ${of}`} aria-pressed=${String(decision === of)}
          aria-keyshortcuts=${key} onClick=${() => decide(of)}>
          ${kind === "missing" ? ofMissing : text} <kbd>${key}</kbd>
        </button>`;
      })}
      <span class="hint">suspicion ${number(suspect.annotation.attributes.suspicion)}, in ${isolated(String(id))}</span>
    </div>
    <div class="images-stage">
      ${room.width > 0 && html`<${Picture} scene=${scene} image=${suspect.image} shapes=${shapes} focus=${focus} room=${room} isLabeled=${true} />`}
      ${!hasPicture && html`<p>No picture of this image was kept.</p>`}
    </div>
    <${Legend} shapes=${shapes} />
  </article>`;
}

/**
 * The decisions on the labels of an evaluation set, kept until the tab of the browser is closed.
 * @param {string} owner
 * @returns {[Decisions, (decisions: Decisions) => void, boolean]} and whether they are kept when the page is left
 */
function useDecisions(owner) {
  const name = `od_eval.label_decisions/${owner}`;
  const [made, setMade] = useState(/** @type {{name: string, decisions: Decisions, isKept: boolean} | null} */ (null));
  const current = made?.name === name ? made : readDecisions(name);
  const set = (/** @type {Decisions} */ decisions) => setMade({ name, decisions, isKept: keepDecisions(name, decisions) });
  return [current.decisions, set, current.isKept];
}

/** @param {string} name */
function readDecisions(name) {
  try {
    const read = JSON.parse(sessionStorage.getItem(name) ?? "{}");
    const valid = Object.entries(read).filter(([, decision]) => DECISIONS.includes(/** @type {any} */ (decision)));
    return { name, decisions: /** @type {Decisions} */ (Object.fromEntries(valid)), isKept: true };
  } catch {
    return { name, decisions: {}, isKept: false };
  }
}

/**
 * @param {string} name
 * @param {Decisions} decisions
 */
function keepDecisions(name, decisions) {
  try {
    sessionStorage.setItem(name, JSON.stringify(decisions));
    return true;
  } catch {
    return false;
  }
}

/**
 * Gives the browser a file to save. The page itself writes nothing.
 * @param {unknown} content
 */
function download(content) {
  const address = URL.createObjectURL(new Blob([JSON.stringify(content)], { type: "application/json" }));
  const link = Object.assign(document.createElement("a"), { href: address, download: FILE_NAME });
  link.click();
  // Not at once: the browser reads it after the click.
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
