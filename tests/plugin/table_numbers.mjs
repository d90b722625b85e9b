// node table_numbers.mjs TABLE.bin '[choice, …]': what static/table.js computes, as JSON.

import { readFileSync } from "node:fs";

import * as table_js from "../../od_eval/plugin/static/table.js";

const [path, choices] = process.argv.slice(2);
const bytes = readFileSync(path);
const table = table_js.parseTable(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));

const results = JSON.parse(choices).map((of) => {
  const choice = { ...of, maxArea: of.maxArea ?? Infinity };
  const judged = table_js.judge(table, choice);
  const matrix = table_js.confusion(table, choice);
  const cells = matrix.labels.flatMap((_, actual) => matrix.labels.map((_, predicted) => [actual, predicted]));
  const cuts = table_js.cuts(table, choice);
  return {
    judged,
    counts: table_js.counts(table, judged),
    confusion: { ...matrix, rows: cells.map(([actual, predicted]) => matrix.rowsOf(actual, predicted)) },
    perImage: table_js.perImage(table, judged, choice.iou),
    cuts,
    bestF1: table_js.bestF1(cuts),
    curve: table_js.curve(table, choice),
  };
});
const plain = (_, value) => (ArrayBuffer.isView(value) ? Array.from(value) : value);
console.log(JSON.stringify({ thresholds: table_js.IOU_THRESHOLDS, errorKinds: table_js.ERROR_KINDS, results }, plain));
