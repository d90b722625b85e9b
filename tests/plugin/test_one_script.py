"""Modules as one classic script."""

import shutil
import subprocess

import pytest

from od_eval.plugin.one_script import one_script

MODULES = {
    "a.js": 'import { b as renamed, c } from "./folder/b.js";\nexport const [first, second] = [renamed, c()];\n',
    "folder/b.js": 'import { two } from "../c.js";\nexport const b = two;\nexport function c() {\n  return 3;\n}\n',
    "c.js": "/** @typedef {import('./nowhere.js').T} T */\nvar t=2,o=1;export{t as two,o as one};",
}


def run(script: str) -> str:
    if shutil.which("node") is None:
        pytest.skip("node is absent")
    return subprocess.run(["node", "-"], input=script, capture_output=True, text=True, check=True).stdout


def test_a_module_is_run_once_after_those_that_it_imports():
    entry = 'import { first, second } from "./a.js";\nimport { one } from "./c.js";\nconsole.log(first, second, one);\n'
    script = one_script(entry, MODULES.__getitem__)
    assert script.count("var t=2") == 1
    assert run(script) == "2 3 1\n"


def test_generators_async_functions_and_classes_are_exported():
    modules = {
        "a.js": "export function* generator() {\n  yield 1;\n}\nexport async function later() {}\nexport class Kept {}"
    }
    entry = (
        'import { generator, later, Kept } from "./a.js";\nconsole.log([...generator()], typeof later, typeof Kept);\n'
    )
    assert run(one_script(entry, modules.__getitem__)) == "[ 1 ] function function\n"


@pytest.mark.parametrize(
    "text",
    [
        "export default 1;",
        "export * from './b.js';",
        "import * as b from './b.js';",
        "import b from './b.js';",
        "export let a = 1;",
        "export const { a } = b;",
        "const a = await import('./b.js');",
        "const a = import.meta.url;",
        "const a = '</script>';",
        "const a = '<!--';",
    ],
)
def test_what_it_does_not_know_or_would_end_the_script_is_an_error(text):
    with pytest.raises(ValueError, match="cannot be put into a classic script"):
        one_script(f"{text}\n", MODULES.__getitem__)


def test_modules_that_import_each_other_are_an_error():
    modules = {"a.js": 'import { b } from "./b.js";\n', "b.js": 'import { a } from "./a.js";\n'}
    with pytest.raises(ValueError, match=r"a\.js → b\.js → a\.js"):
        one_script('import { a } from "./a.js";\n', modules.__getitem__)
