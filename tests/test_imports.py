"""Checks all imports in common/ and experiments/, also those inside functions, against the layering rules."""

import ast
import graphlib
import subprocess
import sys

import pytest
from conftest import PROJECT

HELPERS = {"errors", "files", "text", "machine", "metrics", "claims"}
WITHOUT_KERAS = {"policies", "cross_validation", "thresholds"}
"""Parts that scripts get as they are where they are read without Keras."""
PARTS = {
    *WITHOUT_KERAS,
    *("models", "augment", "losses", "optimizers", "preprocessing", "gradients", "calibration", "features", "transfer"),
    *("inference", "gan", "profiling", "operations", "oscillation", "callbacks"),
}
BELOW_TRAINING = {"helpers", "data", "tasks", "setting", "rows"}
MAY_IMPORT = {
    "helpers": set(),
    "data": {"helpers"},
    "tasks": {"helpers", "data"},
    "space": {"helpers"},
    "setting": {"helpers", "data"},
    "declarations": {"helpers", "tasks", "space", "setting"},
    "searches": {"space", "declarations"},
    "experiment": {"helpers", "tasks", "space", "setting", "declarations", "searches"},
    "rows": {"helpers"},
    "training": BELOW_TRAINING,
    "parts": {"helpers", "data", "training"},
    "running": {*BELOW_TRAINING, "experiment", "training"},
    "search": {"helpers", "data", "tasks", "space", "experiment", "rows", "running"},
    "verdicts": {"helpers", "rows"},
    "figures": {"helpers", "data", "space", "rows", "verdicts"},
    "report": {"helpers", "rows", "verdicts", "figures"},
    "commands": {
        "helpers",
        "data",
        "tasks",
        "setting",
        "declarations",
        "experiment",
        "rows",
        "running",
        "search",
        "verdicts",
        "figures",
        "report",
    },
    "experiments": {"helpers", "tasks", "space", "experiment", "parts"},
}
"""For each room or group of modules at the top of common/, those that it may import besides itself."""
READ_ROWS_ALONE = ("rows", "verdicts", "figures", "report")
SLOW = {
    "common.commands.run": {"common.commands"},
    "common.commands.tensorboard": {"tensorboard"},
    "common.data.corruptions": {"PIL", "scipy"},
    "common.data.dataset": {"tensorflow_datasets"},
    "common.data.folders": {"PIL"},
    "common.data.pixels": {"PIL"},
    "common.data.prepared": {"PIL", "tensorflow_datasets"},
    "common.data.sources": {"PIL", "sklearn.datasets"},
    "common.figures.cache": {"common.figures"},
    "common.rows.store": {"pandas"},
    "common.running.debugger": {"common.training"},
    "common.running.worker": {"common.training"},
    "common.search.oracles": {"keras_tuner", "scipy.stats"},
    "common.verdicts.levels": {"scipy"},
}
"""Slow imports that are made inside functions, by module."""


def modules():
    """Name and syntax tree of every module of common/ and experiments/."""
    for path in sorted([*PROJECT.glob("common/**/*.py"), *PROJECT.glob("experiments/*.py")]):
        name = ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")
        yield name, ast.parse(path.read_text())


def imported(nodes):
    """Modules that import statements name; for `from package import name` the module `package.name`, if it exists."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in TREES else node.module


TREES = dict(modules())
IMPORTS = {name: set(imported(ast.walk(tree))) for name, tree in TREES.items()}


def group(module):
    """Room of a module, or its group at the top of common/."""
    package, *rest = module.split(".")
    if package == "experiments":
        return "experiments"
    first = rest[0] if rest else ""
    return "helpers" if first in HELPERS else "parts" if first in PARTS else first


def ours(names):
    return {name for name in names if name.split(".")[0] in ("common", "experiments")}


def test_every_module_has_a_place_in_the_rules():
    assert {group(name) for name in TREES if name not in ("common", "experiments")} == set(MAY_IMPORT)


@pytest.mark.parametrize("module", [name for name in TREES if name not in ("common", "experiments")])
def test_a_module_imports_only_what_lies_below_it(module):
    mine = group(module)
    allowed = MAY_IMPORT[mine] | ({mine} - {"experiments"})
    upward = [name for name in ours(IMPORTS[module]) if group(name) not in allowed]
    assert not upward


def test_every_permission_is_used():
    used = {(group(name), group(other)) for name, names in IMPORTS.items() for other in ours(names)}
    unused = {(room, other) for room, others in MAY_IMPORT.items() for other in others} - used
    assert not unused


def test_imports_have_no_cycle():
    graph = {name: ours(names) & set(TREES) - {name} for name, names in IMPORTS.items()}
    assert list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError


def test_only_what_is_slow_to_import_is_imported_inside_functions():
    inside = {}
    for name, tree in TREES.items():
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        statements = [node for function in functions for node in ast.walk(function)]
        inner = {node.module for node in statements if isinstance(node, ast.ImportFrom)}
        inner |= {alias.name for node in statements if isinstance(node, ast.Import) for alias in node.names}
        if inner:
            inside[name] = inner
    assert inside == SLOW


def test_rooms_that_read_rows_do_not_import_keras_or_tensorflow():
    for name in TREES:
        if group(name) in READ_ROWS_ALONE:
            assert not {one.split(".")[0] for one in IMPORTS[name]} & {"keras", "tensorflow", "tensorflow_datasets"}, name
    code = (
        "import sys, common.report.page, common.figures.draw\n"
        "assert not {'keras', 'tensorflow', 'common.training', 'common.running'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)


def test_scripts_are_read_without_modules_that_need_keras():
    from common.running import scripts

    assert set(scripts.NEED_KERAS) == PARTS - WITHOUT_KERAS | {"training"}
    direct = {name for name, names in IMPORTS.items() if {one.split(".")[0] for one in names} & {"keras", "tensorflow"}}
    assert {group(name) for name in direct} == {"training", "parts", "experiments"}
    for name in WITHOUT_KERAS:
        assert not {one.split(".")[1] for one in IMPORTS[f"common.{name}"] if one.startswith("common.")} & set(scripts.NEED_KERAS)
        assert f"common.{name}" not in direct


def test_the_init_file_of_a_room_holds_only_a_docstring():
    for room in {name for name in TREES if name.startswith("common.") and (PROJECT / name.replace(".", "/")).is_dir()}:
        (docstring,) = TREES[room].body
        assert isinstance(docstring.value, ast.Constant)
