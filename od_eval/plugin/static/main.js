/** Starts the page in TensorBoard. A report starts with its own data instead: see `od_eval/html_report.py`. */

import { start } from "./app.js";
import { ServerSource } from "./source.js";

start(/** @type {HTMLElement} */ (document.getElementById("page")), new ServerSource());
