// node picture_shapes.mjs TABLE.bin CONFIDENCE: what static/picture.js draws in each image, as JSON.

import { readFileSync } from "node:fs";

import { STYLES, shapesInImage } from "../../od_eval/plugin/static/picture.js";
import { judge, parseTable } from "../../od_eval/plugin/static/table.js";

const [path, confidence] = process.argv.slice(2);
const bytes = readFileSync(path);
const table = parseTable(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
const choice = { confidence: Number(confidence), iou: 0, category: null, minArea: 0, maxArea: Infinity };
const judged = judge(table, choice);
const images = table.images.map((_, image) =>
  shapesInImage(table, judged, image, 0).map((shape) => ({ ...shape, prefix: STYLES[shape.outcome].prefix })),
);
console.log(JSON.stringify(images));
