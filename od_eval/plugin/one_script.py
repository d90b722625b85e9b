"""The ES modules of the page as one classic script: from disk, browsers load no modules.

    one_script('import { start } from "./app.js";\\nstart();', read=lambda name: …)

Each module becomes a function that is called once, those that it imports before it. It knows the forms of `import` and
`export` that the page's modules use, at the beginning of a line; any other is an error, so that no test passes with a
script that a browser would refuse.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable

_IMPORT = re.compile(r'^import \{([^}]*)\} from "(\.[^"]+)";$', re.MULTILINE)
_DECLARED = re.compile(
    r"^export (?=(?:async )?function\*? ?(?P<function>\w+)|class (?P<class>\w+)|const (?P<const>\w+|\[[\w, ]+\]))",
    re.MULTILINE,
)
# Minified modules end in one.
_LISTED = re.compile(r"(?:(?<=[;}])|^)export ?\{([^}]*)\};?$", re.MULTILINE)
_UNKNOWN = re.compile(r"^(?:import|export)\b.*|\bimport\.meta\b|(?<![\w.(])import\(.*|</(?i:script)|<!--", re.MULTILINE)


def one_script(entry: str, read: Callable[[str], str]) -> str:
    """A script that does what a module does.

    Args:
      entry: the text of the module.
      read: returns the text of a module that is imported, by its path relative to the entry: `vendor/preact.js`.

    Raises:
      ValueError: a module has a form of `import` or `export` that is not known, or modules import each other.
    """
    functions: dict[str, str] = {}

    def add(name: str, text: str, importers: tuple[str, ...]) -> None:
        def imported(match: re.Match[str]) -> str:
            path = posixpath.normpath(posixpath.join(posixpath.dirname(name), match[2]))
            if path in (*importers, name):
                raise ValueError(f"modules import each other: {' → '.join((*importers, name, path))}")
            if path not in functions:
                add(path, read(path), (*importers, name))
            names = ", ".join(re.sub(r"(\w+) as (\w+)", r"\1: \2", one.strip()) for one in _split(match[1]))
            return f"const {{ {names} }} = modules[{json.dumps(path)}];"

        exported: list[str] = []

        def declared(match: re.Match[str]) -> str:
            exported.extend(re.findall(r"\w+", match["function"] or match["class"] or match["const"]))
            return ""

        def listed(match: re.Match[str]) -> str:
            exported.extend(re.sub(r"(\w+) as (\w+)", r"\2: \1", one) for one in _split(match[1]))
            return ""

        body = _LISTED.sub(listed, _DECLARED.sub(declared, _IMPORT.sub(imported, text)))
        unknown = _UNKNOWN.search(_without_comments(body))
        if unknown:
            raise ValueError(f"'{name}' cannot be put into a classic script: {unknown[0]}")
        functions[name] = (
            f"modules[{json.dumps(name)}] = (() => {{\n{body.strip()}\nreturn {{ {', '.join(exported)} }};\n}})();\n"
        )

    add("", entry, ())
    # As in modules.
    return '"use strict";\n(() => {\nconst modules = {};\n' + "".join(functions.values()) + "})();\n"


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _without_comments(text: str) -> str:
    """Without JSDoc, which imports types."""
    return re.sub(r"/\*\*.*?\*/", "", text, flags=re.DOTALL)
