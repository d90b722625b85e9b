// node label_places.mjs '{"labels": [{"box", "width", "mayBeFar"}], "picture": {"width", "height"}}': where labels are.

import { placeLabels } from "../../od_eval/plugin/static/picture.js";

const { labels, picture } = JSON.parse(process.argv[2]);
const boxes = labels.map(({ box }) => box);
const begin = performance.now();
const places = placeLabels(labels, boxes, picture);
console.log(JSON.stringify({ places, milliseconds: performance.now() - begin }));
