// Run it as `npm run lint`: the page's modules lie outside of this folder.

import js from "@eslint/js";
import globals from "globals";

export default [
  { ignores: ["**/vendor/", "**/node_modules/"] },
  {
    ...js.configs.recommended,
    files: ["**/*.js"],
    languageOptions: { ecmaVersion: 2023, sourceType: "module", globals: globals.browser },
    rules: {
      ...js.configs.recommended.rules,
      curly: ["error", "multi-line"],
      eqeqeq: "error",
      "no-eval": "error",
      "no-implied-eval": "error",
      "no-new-func": "error",
      "no-restricted-properties": [
        "error",
        { property: "innerHTML", message: "Text of others is never markup." },
        { property: "outerHTML", message: "Text of others is never markup." },
        { property: "insertAdjacentHTML", message: "Text of others is never markup." },
      ],
      "no-restricted-syntax": [
        "error",
        {
          selector: "TemplateElement[value.raw=/dangerouslySetInnerHTML/]",
          message: "Text of others is never markup.",
        },
      ],
      "no-unused-vars": ["error", { argsIgnorePattern: "^_" }],
      "no-var": "error",
      "prefer-const": "error",
    },
  },
  { ...js.configs.recommended, files: ["**/*.mjs"], languageOptions: { globals: globals.node } },
];
