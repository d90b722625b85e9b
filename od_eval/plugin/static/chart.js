/**
 * Small charts in SVG: lines and bars. What a point or a bar says stands below the chart while the mouse or the focus
 * is on it; arrow keys go from one to the next, Enter selects it.
 */

import { Name } from "./format.js";
import { html, useMemo, useState } from "./vendor/preact.js";

/**
 * @typedef {object} Line
 * @property {string} name for the legend, as it comes from data
 * @property {string} color of CSS
 * @property {ArrayLike<number>} x
 * @property {ArrayLike<number>} y NaN: no point
 * @property {string} [dash] of SVG's stroke-dasharray
 * @property {number} [width] in pixels
 * @property {boolean} [dots] whether each point has a dot
 * @property {(at: number) => string} describe what a point says
 *
 * @typedef {object} Mark
 * @property {number} x
 * @property {number} y
 * @property {string} color
 * @property {number} [radius] in pixels
 *
 * @typedef {object} Series
 * @property {string} name
 * @property {string} color
 * @property {number[]} counts
 * @property {string} [dash] of the outline, of SVG's stroke-dasharray
 */

const WIDTH = 520;
const HEIGHT = 320;
const LEFT = 68;
const RIGHT = 16;
const TOP = 14;
const BOTTOM = 46;
const PLOT_WIDTH = WIDTH - LEFT - RIGHT;
const PLOT_HEIGHT = HEIGHT - TOP - BOTTOM;

/** A key moves over this part of the axis. */
const STEP_OF_KEYS = 1 / 50;
/** Smaller counts need no logarithms. */
const LEAST_OF_LOG = 100;
/** Where the axis of logarithms begins: a bar of 1 has a height. */
const FIRST_OF_LOG = 0.5;
const MOST_LABELS = 12;

/**
 * Lines on two axes.
 * @param {object} props
 * @param {string} props.title
 * @param {string} props.xLabel
 * @param {string} props.yLabel
 * @param {[number, number]} props.x the range of the axis
 * @param {[number, number]} props.y
 * @param {Line[]} props.lines
 * @param {Mark[]} [props.marks] points that stand out
 * @param {number} [props.rule] where a vertical line is
 * @param {string} props.hint what a click does, or how to read the chart
 * @param {(line: number, at: number) => void} props.onSelect
 */
export function LineChart({ title, xLabel, yLabel, x, y, lines, marks = [], rule, hint, onSelect }) {
  const [active, setActive] = useState(/** @type {{line: number, at: number} | null} */ (null));
  // The mouse changes what is active, and no line.
  const shown = useMemo(() => lines.map((line) => drawn(line, x, y)), [lines]);
  const point = active && shown[active.line]?.points[active.at] ? active : null;
  const nearestTo = (/** @type {PointerEvent} */ event) => nearest(shown, placeOf(event));
  const select = (/** @type {{line: number, at: number} | null} */ of) => of && onSelect(of.line, of.at);
  const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      select(point);
      return;
    }
    const next = pointByKey(shown, point, event.key);
    if (!next) return;
    event.preventDefault();
    setActive(next);
  };
  const said = point ? lines[point.line].describe(point.at) : hint;
  return html`
    <figure class="chart">
      <figcaption>${title}</figcaption>
      <svg
        viewBox="0 0 ${WIDTH} ${HEIGHT}"
        role="slider"
        tabindex="0"
        aria-label=${title}
        aria-valuemin="0"
        aria-valuemax=${point ? shown[point.line].points.length - 1 : 0}
        aria-valuenow=${point ? point.at : 0}
        aria-valuetext=${said}
        onPointerMove=${(/** @type {PointerEvent} */ event) => setActive(nearestTo(event))}
        onPointerLeave=${() => setActive(null)}
        onBlur=${() => setActive(null)}
        onClick=${(/** @type {PointerEvent} */ event) => select(nearestTo(event))}
        onKeyDown=${onKeyDown}
      >
        <${Axes} xLabel=${xLabel} yLabel=${yLabel} />
        ${ticks(x).map((value) => html`<${XTick} at=${xOf(value, x)} label=${short(value)} />`)}
        ${ticks(y).map((value) => html`<${YTick} at=${yOf(value, y)} label=${short(value)} />`)}
        ${
          rule !== undefined && rule >= x[0] && rule <= x[1]
            ? html`<line class="rule" x1=${xOf(rule, x)} x2=${xOf(rule, x)} y1=${TOP} y2=${TOP + PLOT_HEIGHT} />`
            : null
        }
        ${shown.map(
          (line) => html`
            <path
              class="line"
              d=${line.path}
              style=${`stroke: ${line.color}; stroke-width: ${line.width ?? 2}`}
              stroke-dasharray=${line.dash}
            />
            ${
              line.dots
                ? line.points.map((at) => html`<circle cx=${at.x} cy=${at.y} r="4" style=${`fill: ${line.color}`} />`)
                : null
            }
          `,
        )}
        ${marks
          .filter((mark) => Number.isFinite(mark.x) && Number.isFinite(mark.y))
          .map(
            (mark) =>
              html`<circle
                class="mark"
                cx=${xOf(mark.x, x)}
                cy=${yOf(mark.y, y)}
                r=${mark.radius ?? 6}
                style=${`stroke: ${mark.color}`}
              />`,
          )}
        ${
          point
            ? html`<circle
              class="active"
              cx=${shown[point.line].points[point.at].x}
              cy=${shown[point.line].points[point.at].y}
              r="5"
              style=${`fill: ${lines[point.line].color}`}
            />`
            : null
        }
      </svg>
      <p class="said">${said}</p>
      <${Legend} entries=${lines} />
    </figure>
  `;
}

/**
 * Bars of counts; those of one bin beside each other.
 * @param {object} props
 * @param {string} props.title
 * @param {string} props.xLabel
 * @param {number[]} props.edges of the bins; one more than there are bins
 * @param {Series[]} props.series
 * @param {boolean} [props.isLog] whether the axis of counts is logarithmic, if there are large ones
 * @param {string} props.hint what a click does, or how to read the chart
 * @param {(series: number, bin: number) => string} props.describe what a bar says
 * @param {(series: number, bin: number) => void} props.onSelect
 */
export function BarChart({ title, xLabel, edges, series, isLog: mayBeLog = false, hint, describe, onSelect }) {
  const [active, setActive] = useState(/** @type {{series: number, bin: number} | null} */ (null));
  const most = Math.max(1, ...series.flatMap(({ counts }) => counts));
  const isLog = mayBeLog && most >= LEAST_OF_LOG;
  const heightOf = (/** @type {number} */ count) => {
    if (!isLog) return (count / most) * PLOT_HEIGHT;
    return count ? (Math.log(count / FIRST_OF_LOG) / Math.log(most / FIRST_OF_LOG)) * PLOT_HEIGHT : 0;
  };
  const numBins = edges.length - 1;
  const binWidth = PLOT_WIDTH / numBins;
  const barWidth = (binWidth * 0.86) / series.length;
  const leftOf = (/** @type {number} */ of, /** @type {number} */ bin) =>
    LEFT + binWidth * (bin + 0.07) + barWidth * of;
  const everyLabel = Math.ceil(edges.length / MOST_LABELS);
  const bars = Array.from({ length: numBins }, (_, bin) => series.map((_of, index) => ({ series: index, bin })))
    .flat()
    .filter((bar) => series[bar.series].counts[bar.bin] > 0);
  const same = (
    /** @type {{series: number, bin: number} | null} */ a,
    /** @type {{series: number, bin: number}} */ b,
  ) => a !== null && a.series === b.series && a.bin === b.bin;
  const inTabOrder = bars.find((bar) => same(active, bar)) ?? bars[0];
  const onKeyDown = (/** @type {KeyboardEvent} */ event, /** @type {{series: number, bin: number}} */ bar) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      onSelect(bar.series, bar.bin);
      return;
    }
    const to = indexByKey(bars.indexOf(bar), bars.length, event.key);
    if (to === null) return;
    event.preventDefault();
    const element = /** @type {Element} */ (event.currentTarget);
    const all = element.parentElement?.querySelectorAll('[role="button"]');
    /** @type {SVGElement | undefined} */ (all?.[to])?.focus();
  };
  return html`
    <figure class="chart">
      <figcaption>${title}</figcaption>
      <svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="group" aria-label=${title} onPointerLeave=${() => setActive(null)}>
        <${Axes} xLabel=${xLabel} yLabel=${isLog ? "Number (logarithmic)" : "Number"} />
        ${(isLog ? powersOfTen(most) : ticks([0, most]).filter(Number.isInteger)).map(
          (value) => html`<${YTick} at=${TOP + PLOT_HEIGHT - heightOf(value)} label=${compact(value)} />`,
        )}
        ${edges.map((edge, at) =>
          at % everyLabel === 0 ? html`<${XTick} at=${LEFT + binWidth * at} label=${short(edge)} />` : null,
        )}
        ${bars.map((bar) => {
          const { color, dash, counts: of } = series[bar.series];
          const height = Math.max(heightOf(of[bar.bin]), 1);
          const left = leftOf(bar.series, bar.bin);
          return html`
            <g
              class=${same(active, bar) ? "bar on" : "bar"}
              role="button"
              tabindex=${bar === inTabOrder ? 0 : -1}
              aria-label=${describe(bar.series, bar.bin)}
              onPointerEnter=${() => setActive(bar)}
              onFocus=${() => setActive(bar)}
              onClick=${() => onSelect(bar.series, bar.bin)}
              onKeyDown=${(/** @type {KeyboardEvent} */ event) => onKeyDown(event, bar)}
            >
              <rect class="hit" x=${left} y=${TOP} width=${barWidth} height=${PLOT_HEIGHT} />
              <rect
                class=${dash ? "body dashed" : "body"}
                x=${left}
                y=${TOP + PLOT_HEIGHT - height}
                width=${barWidth}
                height=${height}
                style=${`fill: ${color}`}
                stroke-dasharray=${dash}
              />
            </g>
          `;
        })}
        ${
          bars.length
            ? null
            : html`<text class="nothing" x=${LEFT + PLOT_WIDTH / 2} y=${TOP + PLOT_HEIGHT / 2}>none</text>`
        }
      </svg>
      <p class="said">
        ${active && bars.some((bar) => same(active, bar)) ? describe(active.series, active.bin) : hint}
      </p>
      <${Legend} entries=${series} />
    </figure>
  `;
}

/**
 * Where a key leads in a row of things; null for other keys.
 * @param {number} from
 * @param {number} num
 * @param {string} key
 */
export function indexByKey(from, num, key) {
  /** @type {Record<string, number>} */
  const targets = { ArrowLeft: from - 1, ArrowRight: from + 1, Home: 0, End: num - 1 };
  return key in targets ? Math.min(Math.max(targets[key], 0), num - 1) : null;
}

/**
 * Numbers on an axis at even distances: 1, 2 or 5 times a power of ten.
 * @param {[number, number]} range
 * @returns {number[]} about five
 */
export function ticks([low, high]) {
  const raw = (high - low) / 5;
  if (!(raw > 0) || !Number.isFinite(raw)) return [low];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * ([1, 2, 5, 10].find((factor) => factor * power >= raw * 0.999) ?? 10);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, at) => Number(((first + at) * step).toPrecision(12)));
}

/** @param {number} most */
function powersOfTen(most) {
  const all = [];
  for (let value = 1; value <= most; value *= 10) all.push(value);
  return all;
}

/** @param {number} value */
const short = (value) => (value === Infinity ? "∞" : String(Number(value.toPrecision(3))));

/** @param {number} value */
const compact = (value) =>
  value >= 1e6 ? `${short(value / 1e6)}M` : value >= 1e4 ? `${short(value / 1e3)}k` : short(value);

/**
 * @param {number} value
 * @param {[number, number]} range
 */
const xOf = (value, [low, high]) => LEFT + ((value - low) / (high - low)) * PLOT_WIDTH;

/**
 * @param {number} value
 * @param {[number, number]} range
 */
const yOf = (value, [low, high]) => TOP + PLOT_HEIGHT * (1 - (value - low) / (high - low));

/**
 * A line with the places of its points in the drawing.
 * @param {Line} line
 * @param {[number, number]} x
 * @param {[number, number]} y
 */
function drawn(line, x, y) {
  const points = Array.from(line.x, (value, at) => ({ x: xOf(value, x), y: yOf(line.y[at], y) }));
  return { ...line, points, path: pathOf(points) };
}

/**
 * The line through points; it is interrupted where there is none.
 * @param {{x: number, y: number}[]} points
 */
function pathOf(points) {
  let path = "";
  let pen = "M";
  for (const { x, y } of points) {
    if (Number.isNaN(x) || Number.isNaN(y)) {
      pen = "M";
      continue;
    }
    path += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
    pen = "L";
  }
  return path;
}

/**
 * Where in the drawing the mouse is.
 * @param {PointerEvent} event
 */
function placeOf(event) {
  const box = /** @type {Element} */ (event.currentTarget).getBoundingClientRect();
  return {
    x: ((event.clientX - box.left) / box.width) * WIDTH,
    y: ((event.clientY - box.top) / box.height) * HEIGHT,
  };
}

/**
 * @param {{points: {x: number, y: number}[]}[]} lines
 * @param {{x: number, y: number}} place
 * @returns {{line: number, at: number} | null}
 */
function nearest(lines, place) {
  let found = null;
  let least = Infinity;
  lines.forEach(({ points }, line) => {
    points.forEach((point, at) => {
      const distance = (point.x - place.x) ** 2 + (point.y - place.y) ** 2;
      if (distance >= least) return; // also where there is no point: NaN is not below anything, nor above
      if (Number.isNaN(distance)) return;
      least = distance;
      found = { line, at };
    });
  });
  return found;
}

/**
 * The point that a key leads to: left and right on a line, up and down from line to line; null for other keys.
 * @param {{points: {x: number, y: number}[]}[]} lines
 * @param {{line: number, at: number} | null} from
 * @param {string} key
 * @returns {{line: number, at: number} | null}
 */
function pointByKey(lines, from, key) {
  if (!["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End"].includes(key)) return null;
  const drawn = lines.map((line, index) => ({ ...line, index })).filter(({ points }) => points.some(isDrawn));
  if (!drawn.length) return null;
  const current = from && lines[from.line].points[from.at];
  const position = drawn.findIndex(({ index }) => index === from?.line);
  const isUpOrDown = key === "ArrowUp" || key === "ArrowDown";
  const change = isUpOrDown ? (key === "ArrowDown" ? 1 : drawn.length - 1) : 0;
  const { points, index } = drawn[(Math.max(position, 0) + (from ? change : 0)) % drawn.length];
  const order = points
    .map((point, at) => ({ x: point.x, at, is: isDrawn(point) }))
    .filter((point) => point.is)
    .sort((a, b) => a.x - b.x);
  const last = order[order.length - 1];
  const step = PLOT_WIDTH * STEP_OF_KEYS;
  if (!current || key === "Home") return { line: index, at: order[0].at };
  if (key === "End") return { line: index, at: last.at };
  if (key === "ArrowLeft") {
    const before = order.filter((point) => point.x <= current.x - step);
    return { line: index, at: (before[before.length - 1] ?? order[0]).at };
  }
  const from_x = current.x + (isUpOrDown ? 0 : step);
  return { line: index, at: (order.find((point) => point.x >= from_x) ?? last).at };
}

/** @param {{x: number, y: number}} point */
const isDrawn = ({ x, y }) => !Number.isNaN(x) && !Number.isNaN(y);

/** @param {{xLabel: string, yLabel: string}} props */
function Axes({ xLabel, yLabel }) {
  const bottom = TOP + PLOT_HEIGHT;
  const middle = TOP + PLOT_HEIGHT / 2;
  return html`
    <path class="axis" d=${`M${LEFT} ${TOP}V${bottom}H${LEFT + PLOT_WIDTH}`} />
    <text class="label" x=${LEFT + PLOT_WIDTH / 2} y=${HEIGHT - 6}>${xLabel}</text>
    <text class="label" x="16" y=${middle} transform="rotate(-90 16 ${middle})">${yLabel}</text>
  `;
}

/** @param {{at: number, label: string}} props */
const XTick = ({ at, label }) => html`<text class="tick x" x=${at} y=${TOP + PLOT_HEIGHT + 18}>${label}</text>`;

/** @param {{at: number, label: string}} props */
const YTick = ({ at, label }) => html`
  <line class="grid" x1=${LEFT} x2=${LEFT + PLOT_WIDTH} y1=${at} y2=${at} />
  <text class="tick y" x=${LEFT - 7} y=${at + 4}>${label}</text>
`;

/** @param {{entries: {name: string, color: string, dash?: string, counts?: number[]}[]}} props */
const Legend = ({ entries }) => html`
  <ul class="legend">
    ${entries.map(
      ({ name, color, dash, counts }) => html`
        <li>
          <svg viewBox="0 0 26 12" aria-hidden="true">
            ${
              counts
                ? html`<rect class=${dash ? "body dashed" : "body"} x="6" y="0" width="14" height="12" style=${`fill: ${color}`} stroke-dasharray=${dash} />`
                : html`<path d="M0 6H26" style=${`stroke: ${color}`} stroke-dasharray=${dash} />`
            }
          </svg>
          <${Name} of=${name} />
        </li>
      `,
    )}
  </ul>
`;
