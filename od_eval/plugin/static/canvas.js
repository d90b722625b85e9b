/**
 * Makes a canvas as large as it is shown, with a pixel for each of the screen's, and empties it.
 *
 *     const pen = penOf(canvas, 640, 480);
 *
 * @param {HTMLCanvasElement} canvas
 * @param {number} width in CSS pixels
 * @param {number} height
 */
export function penOf(canvas, width, height) {
  const ratio = pixelRatio();
  canvas.width = Math.max(1, Math.round(width * ratio));
  canvas.height = Math.max(1, Math.round(height * ratio));
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  return /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
}

/** Pixels of the screen for each CSS pixel. */
export const pixelRatio = () => globalThis.devicePixelRatio || 1;
