/**
 * Masks as COCO's run-length encodings (RLE): the lengths of runs of pixels, column by column, that belong to the object
 * or not, in turns; the first run does not. Pure functions.
 *
 *     const mask = maskOf(counts, 640, 480);
 *     if (mask && hasPixel(mask, 320, 240)) outline(mask);
 */

/**
 * @typedef {object} Mask
 * @property {Uint32Array} runs the lengths of the runs
 * @property {number} height of the image, in pixels
 */

/**
 * A mask from compressed counts. They are those of `rleFrString` in pycocotools: numbers of six bits to the letter, from
 * the fourth on differences to the run of the same kind before.
 *
 * @param {Uint8Array} counts in ASCII
 * @param {number} width of the image
 * @param {number} height
 * @returns {Mask | null} null if it is not a mask of an image of this size
 */
export function maskOf(counts, width, height) {
  const runs = new Uint32Array(counts.length);
  let [num, numPixels, at] = [0, 0, 0];
  while (at < counts.length) {
    let [value, shift, letter] = [0, 0, 0];
    do {
      letter = counts[at++] - 48;
      value |= (letter & 31) << shift;
      shift += 5;
    } while (letter & 32 && at < counts.length);
    if (letter & 16 && shift < 32) value |= -1 << shift;
    if (num > 2) value += runs[num - 2];
    if (value < 0) return null;
    runs[num++] = value;
    numPixels += value;
  }
  return numPixels > 0 && numPixels === width * height ? { runs: runs.subarray(0, num), height } : null;
}

/**
 * Whether a pixel belongs to the object.
 *
 * @param {Mask} mask
 * @param {number} x
 * @param {number} y
 */
export function hasPixel({ runs, height }, x, y) {
  if (y < 0 || y >= height || x < 0) return false;
  let left = x * height + y;
  for (let run = 0; run < runs.length; run++) {
    if (left < runs[run]) return run % 2 === 1;
    left -= runs[run];
  }
  return false;
}

/** @param {Mask} mask */
export function numPixels({ runs }) {
  let num = 0;
  for (let run = 1; run < runs.length; run += 2) num += runs[run];
  return num;
}

/**
 * The lines between the pixels of the object and all others, as polygons; filled by the rule "evenodd", they are the
 * object.
 *
 * @param {Mask} mask
 * @returns {number[][]} x and y of the corners in turns, in pixels of the image
 */
export function outline(mask) {
  const { column, y } = horizontalLines(mask);
  // Lines have two ends, 2 * line at the left and 2 * line + 1 at the right. Which end each is connected with:
  const connected = new Int32Array(2 * y.length);
  const connect = (/** @type {number} */ a, /** @type {number} */ b) => {
    connected[a] = b;
    connected[b] = a;
  };
  // Between two columns of pixels, from the top down: lines at the same height continue each other; of the other ends,
  // two at a time are those of a vertical line.
  let before = 0;
  let at = 0;
  while (before < y.length) {
    const x = at < y.length ? Math.min(column[at], column[before] + 1) : column[before] + 1;
    let waiting = -1;
    while (true) {
      const isLeft = before < at && column[before] === x - 1;
      const isRight = at < y.length && column[at] === x;
      let end = 0;
      if (isLeft && isRight && y[before] === y[at]) {
        connect(2 * before++ + 1, 2 * at++);
        continue;
      } else if (isLeft && (!isRight || y[before] < y[at])) end = 2 * before++ + 1;
      else if (isRight) end = 2 * at++;
      else break;
      if (waiting < 0) waiting = end;
      else {
        connect(waiting, end);
        waiting = -1;
      }
    }
  }
  return polygons(column, y, connected);
}

/**
 * The lines above and below the object in each column of pixels, by column, from the top down.
 *
 * @param {Mask} mask
 */
function horizontalLines({ runs, height }) {
  /** @type {number[]} */
  const column = [];
  /** @type {number[]} */
  const y = [];
  let begin = 0;
  for (let run = 0; run < runs.length; run++) {
    const end = begin + runs[run];
    if (run % 2) {
      // A run may go on at the top of the next column.
      for (let from = begin; from < end; ) {
        const x = Math.floor(from / height);
        const to = Math.min(end, (x + 1) * height);
        const top = from - x * height;
        // Of two runs without a gap between them.
        if (column.length && column[column.length - 1] === x && y[y.length - 1] === top) y[y.length - 1] = to - x * height;
        else {
          column.push(x, x);
          y.push(top, to - x * height);
        }
        from = to;
      }
    }
    begin = end;
  }
  return { column, y };
}

/**
 * @param {number[]} column of horizontal lines
 * @param {number[]} y
 * @param {Int32Array} connected the end that each end is connected with
 */
function polygons(column, y, connected) {
  const isDone = new Uint8Array(y.length);
  const closed = [];
  for (let first = 0; first < y.length; first++) {
    if (isDone[first]) continue;
    /** @type {number[]} */
    const corners = [];
    let begin = 2 * first;
    do {
      const line = begin >> 1;
      isDone[line] = 1;
      const end = begin ^ 1;
      begin = connected[end];
      const x = column[line] + (end & 1);
      if (y[begin >> 1] !== y[line]) corners.push(x, y[line], x, y[begin >> 1]);
    } while (begin >> 1 !== first);
    closed.push(corners);
  }
  return closed;
}
