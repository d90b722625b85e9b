// node mask_pixels.mjs FILE.json, [{counts, width, height}]: what static/mask.js makes of each mask, and how fast, as JSON.
// The pixels are there of small masks only.

import { readFileSync } from "node:fs";

import { hasPixel, maskOf, numPixels, outline } from "../../od_eval/plugin/static/mask.js";

const encoder = new TextEncoder();
const given = JSON.parse(readFileSync(process.argv[2], "utf-8")).map((mask) => ({
  ...mask,
  counts: encoder.encode(mask.counts),
}));
const begin = process.cpuUsage();
const masks = given.map(({ counts, width, height }) => maskOf(counts, width, height));
const outlines = masks.map((mask) => mask && outline(mask));
const { user, system } = process.cpuUsage(begin);
const milliseconds = (user + system) / 1000;
const made = given.map(({ width, height }, at) => {
  const mask = masks[at];
  if (!mask) return null;
  const isSmall = width * height < 10_000;
  const row = (y) => Array.from({ length: width }, (_, x) => Number(hasPixel(mask, x, y)));
  const pixels = isSmall ? Array.from({ length: height }, (_, y) => row(y)) : null;
  const outside = [[-1, 0], [0, -1], [width, 0], [0, height]].some(([x, y]) => hasPixel(mask, x, y));
  return { pixels, outside, numPixels: numPixels(mask), outline: outlines[at] };
});
console.log(JSON.stringify({ masks: made, milliseconds }));
