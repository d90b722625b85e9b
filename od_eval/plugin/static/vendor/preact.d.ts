// The types of preact.js, for editors and `npm run types` in tests/plugin.

export { h, render, Component, Fragment, createContext } from "preact";
export * from "preact/hooks";
export function html(strings: TemplateStringsArray, ...values: unknown[]): import("preact").VNode;
