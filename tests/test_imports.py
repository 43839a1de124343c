"""The packages: who may import whom, and that importing one does nothing."""

import ast
import functools
import os
import subprocess
import sys

import pytest
from paths import ROOT

SCRIPTS = {"train_fixed", "inference_fixed", "evaluate_fixed", "export_fixed", "synthetic", "check_dataset"}
MAY_IMPORT = {  # besides itself; in this order, so that no package imports one below its own line
    "config": set(),
    "geometry": set(),
    "metrics": set(),
    "model": {"geometry"},
    "losses_fixed": {"geometry"},
    "runtime": {"config", "geometry", "model"},
    "visualization": {"geometry", "runtime"},
    "renderer": {"runtime"},
    "formats": {"geometry", "metrics", "runtime"},
    "preprocessing": {"config", "formats", "geometry", "runtime"},
    "dataset": {"config", "formats", "geometry", "preprocessing", "renderer", "runtime"},
    "inference": {"config", "dataset", "formats", "geometry", "metrics", "model", "preprocessing", "runtime",
                  "visualization"},
    "evaluation": {"config", "dataset", "formats", "geometry", "inference", "losses_fixed", "metrics", "model",
                   "preprocessing", "runtime", "visualization"},
    "training": {"config", "dataset", "evaluation", "formats", "geometry", "inference", "losses_fixed", "metrics",
                 "model", "preprocessing", "runtime", "visualization"},
}
FILES = sorted([*ROOT.glob("*.py"), *(path for package in MAY_IMPORT for path in (ROOT / package).glob("*.py"))])
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in FILES if path.stem != "__init__"}


def package(module):
    """The folder of a module, or the file in the root; config_checks is the second half of config."""
    return module.split(".")[0].removesuffix("_checks")


@functools.cache
def tree(name):
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def runs_as_script(node):
    """Whether a statement is `if __name__ == "__main__":`, where a file is a script and may import anything."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Compare) and "__name__" in ast.unparse(node.test)


@functools.cache
def imports(name):
    """Our own modules that a module imports, anywhere but where it is run as a script."""
    names = set()
    for node in (n for top in tree(name).body if not runs_as_script(top) for n in ast.walk(top)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "scripts have no package to be relative to"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names & set(MODULES) - {name}


@pytest.mark.parametrize("name", MODULES)
def test_each_room_imports_only_those_it_may(name):
    packages = {package(other) for other in imports(name)} - {package(name)}
    if name in SCRIPTS:
        assert not packages & SCRIPTS, "a script imports no script"
    else:
        assert packages <= MAY_IMPORT[package(name)]


def test_the_table_has_no_arrow_upwards_and_no_room_that_is_gone():
    order = list(MAY_IMPORT)
    assert all(order.index(other) < order.index(name) for name, others in MAY_IMPORT.items() for other in others)
    assert set(order) | SCRIPTS == {package(name) for name in MODULES}


def test_no_module_imports_in_a_circle():
    done = set()

    def visit(name, path):
        assert name not in path, " -> ".join([*path, name])
        if name not in done:
            for other in imports(name):
                visit(other, [*path, name])
            done.add(name)

    for name in MODULES:
        visit(name, [])


def test_nothing_is_longer_than_280_lines():
    others = ("tests", "benchmarks", "examples")
    paths = [*FILES, *(path for folder in others for path in (ROOT / folder).rglob("*.py"))]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in paths}
    assert len(lengths) > len(MODULES)
    assert {name: length for name, length in lengths.items() if length > 280} == {}


def test_no_function_is_longer_than_60_lines():
    lengths = {f"{name}.{node.name}": node.end_lineno - node.lineno + 1 for name in MODULES
               for node in ast.walk(tree(name)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
    assert "train_fixed.train" in lengths
    assert {name: length for name, length in lengths.items() if length > 60} == {}


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_is(name):
    assert not {"utils", "util", "common", "misc", "helpers"} & set(name.split("."))
    assert ast.get_docstring(tree(name)), "the first line of a module says what it is"


@pytest.mark.slow
@pytest.mark.process
def test_importing_does_nothing(tmp_path):
    """No output, no file, and no work: all modules in one fresh interpreter."""
    code = "import os, sys; sys.path.insert(0, sys.argv[1])\n" + "".join(f"import {name}\n" for name in MODULES)
    code += "import torch, threading; assert not torch.cuda.is_initialized()"
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code, str(ROOT)], cwd=tmp_path, env=environment,
                          capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []
