/** How numbers and names stand on the page. */

import { html } from "./vendor/preact.js";

/**
 * A metric or a score with three decimals; "–" for none.
 * @param {number | null | undefined} value
 */
export const number = (value) => (value === null || value === undefined || Number.isNaN(value) ? "–" : value.toFixed(3));

/**
 * A part of a whole in percent: "<1%", "12%"; "–" for none.
 * @param {number | null | undefined} value
 */
export function percent(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  return value > 0 && value < 0.005 ? "<1%" : `${Math.round(100 * value)}%`;
}

/**
 * An integer with thin spaces between thousands: 36 266.
 * @param {number} value
 */
export const count = (value) => String(value).replace(/\B(?=(\d{3})+$)/g, "\u202f");

const COMPACT = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

/**
 * A large number in little room: 12.3M.
 * @param {number} value
 */
export const compact = (value) => COMPACT.format(value);

/**
 * "1 image", "2 images".
 * @param {number} num
 * @param {string} noun
 */
export const plural = (num, noun) => `${count(num)} ${noun}${num === 1 ? "" : "s"}`;

/** Control characters, those that turn the direction of text, unseen ones, and halves of surrogate pairs. */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Co}\p{Cn}]/gu;

/**
 * Text that others wrote, with its unprintable characters escaped: `\u202e`.
 * @param {string} text
 */
export const printable = (text) =>
  text.replace(UNPRINTABLE, (character) => {
    const code = /** @type {number} */ (character.codePointAt(0));
    return code > 0xffff ? `\\u{${code.toString(16)}}` : `\\u${code.toString(16).padStart(4, "0")}`;
  });

/**
 * The same for attributes and SVG, where no element can isolate it: its direction turns nothing around it.
 * @param {string} text
 */
export const isolated = (text) => `\u2068${printable(text)}\u2069`;

/**
 * A name that others gave, such as that of a category or an image: text only, whose direction turns nothing around it.
 * @param {{of: string | number}} props
 */
export const Name = ({ of }) => html`<bdi class="name">${printable(String(of)) || "(no name)"}</bdi>`;
