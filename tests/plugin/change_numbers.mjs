// node change_numbers.mjs A.bin B.bin '[[choice of A, choice of B], …]' HISTORY.json COMPARISON.json: what
// static/changes.js computes, as JSON. HISTORY.json is of B's run. Both files may be missing.

import { existsSync, readFileSync } from "node:fs";

import * as changes_js from "../../od_eval/plugin/static/changes.js";
import { judge, parseTable } from "../../od_eval/plugin/static/table.js";

const [pathA, pathB, choices, pathOfHistory, pathOfComparison] = process.argv.slice(2);
const [a, b] = [pathA, pathB].map((path) => {
  const bytes = readFileSync(path);
  return parseTable(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
});
const json = (path) => (existsSync(path) ? JSON.parse(readFileSync(path, "utf8")) : null);
const history = json(pathOfHistory);
const comparison = json(pathOfComparison);

const same = changes_js.sameObjects(a, b);
const found = JSON.parse(choices).map((pair) => {
  const [judgedA, judgedB] = pair.map((choice, at) => judge([a, b][at], { maxArea: Infinity, ...choice }));
  const of = changes_js.changes(a, b, same, judgedA, judgedB);
  const nums = (change) => Array.from(changes_js.numPerImage(a, b, same, changes_js.picked(of, change)));
  return { rows: of, numPerImage: nums(null), numPerImageFixed: nums("fixed") };
});
const plain = (_, value) => (ArrayBuffer.isView(value) ? Array.from(value) : value);
console.log(
  JSON.stringify(
    {
      same,
      found,
      followed: history && changes_js.objectsByStatus(b, history),
      mirrored: comparison && changes_js.mirrored(comparison),
    },
    plain,
  ),
);
