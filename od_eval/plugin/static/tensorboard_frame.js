/**
 * What TensorBoard imports into the frame of the tab. The page is a document of its own, which can also be opened alone,
 * and whose address is the one that data and modules are relative to.
 */
export function render() {
  location.replace(new URL("../index.html", import.meta.url));
}
