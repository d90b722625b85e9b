// node selection_numbers.mjs TABLE.bin CHOICE '["errors/class", …]': what names select, bars and calibration, as JSON.

import { readFileSync } from "node:fs";

import { DISTRIBUTIONS, calibration, edges, histogram } from "../../od_eval/plugin/static/distributions.js";
import { nameOfBar, selected } from "../../od_eval/plugin/static/selection.js";
import { parseTable } from "../../od_eval/plugin/static/table.js";

const [path, chosen, names] = process.argv.slice(2);
const bytes = readFileSync(path);
const table = parseTable(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
const choice = { ...JSON.parse(chosen), maxArea: Infinity };

const bars = Object.entries(DISTRIBUTIONS).map(([name, { quantity }]) => {
  const bins = edges(table, quantity);
  const selections = bins.slice(1).map((high, at) => selected(table, choice, nameOfBar(name, bins[at], high)));
  return [name, { edges: bins.map(String), counts: histogram(table, choice, name), selections }];
});
console.log(
  JSON.stringify({
    bars: Object.fromEntries(bars),
    calibration: calibration(table, choice),
    selected: Object.fromEntries(JSON.parse(names).map((name) => [name, selected(table, choice, name)])),
  }),
);
