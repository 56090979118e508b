"""The house rules that a tool can hold: no import circle, arrows one way, no private name of another module."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "runtime": "pocketrec.runtime",
    "distill": "pocketrec.distill",
    "export": "pocketrec.export",
    "sdk": "pocketrec",
}
COMPILED = "_native"  # a module of C, not a private name
ARROWS = {"runtime": {"runtime"}, "distill": {"distill", "runtime"}, "export": {"export", "distill", "runtime"}}


def module_name(path, root=ROOT):
    folder, *rest = path.relative_to(root).with_suffix("").parts
    return ".".join([PACKAGES[folder], *rest]).removesuffix(".__init__")


def sources(root=ROOT):
    """Module name -> (top folder, syntax tree) of every module of pocketrec."""
    paths = [(folder, path) for folder in PACKAGES for path in sorted((root / folder).rglob("*.py"))]
    return {module_name(path, root): (folder, ast.parse(path.read_text(encoding="utf-8"))) for folder, path in paths}


def imports(tree, known):
    """The (module, name) pairs that a module imports when it runs, inside functions too, for types alone not."""
    waiting, found = [tree], []
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
        elif isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names if alias.name in known]
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                if whole in known:
                    found.append((whole, ""))
                elif node.module in known:
                    found.append((node.module, alias.name))
        else:
            waiting += ast.iter_child_nodes(node)
    return found


def graph(modules):
    return {name: {other for other, _ in imports(tree, modules)} - {name} for name, (_, tree) in modules.items()}


def circle(modules):
    try:
        TopologicalSorter(graph(modules)).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def wrong_arrows(modules):
    folder = {name: top for name, (top, _) in modules.items()}
    return [
        f"{name} imports {other}"
        for name, needs in graph(modules).items()
        for other in sorted(needs)
        if folder[other] not in ARROWS.get(folder[name], PACKAGES)
    ]


def borrowed(modules):
    return [
        f"{name} imports {other}.{what}"
        for name, (_, tree) in modules.items()
        for other, what in imports(tree, modules)
        if what.startswith("_") and not what.startswith("__") and what != COMPILED
    ]


@pytest.fixture(scope="module")
def modules():
    found = sources()
    assert len(found) > 150
    return found


def test_no_module_imports_itself_by_way_of_others(modules):
    assert circle(modules) == []


def test_arrows_run_from_sdk_to_export_to_distill_to_runtime(modules):
    assert wrong_arrows(modules) == []


def test_no_module_imports_a_private_name_of_another(modules):
    assert borrowed(modules) == []


@pytest.fixture
def house(tmp_path):
    """Return a function that lays out modules (path -> code) and reads them."""

    def build(**files):
        for path, code in files.items():
            file = tmp_path / (path.replace("__", "/") + ".py")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(code)
        return sources(tmp_path)

    return build


def test_a_circle_is_found_also_inside_functions(house):
    found = house(runtime__a="from pocketrec.runtime.b import x", runtime__b="def f():\n    import pocketrec.runtime.a")
    assert set(circle(found)) == {"pocketrec.runtime.a", "pocketrec.runtime.b"}


def test_imports_for_types_alone_make_no_circle(house):
    types = "if TYPE_CHECKING:\n    from pocketrec.runtime.a import x"
    assert circle(house(runtime__a="from pocketrec.runtime.b import x", runtime__b=types)) == []


def test_an_arrow_against_the_order_is_found(house):
    found = house(runtime__a="def f():\n    from pocketrec.export import b", export__b="")
    assert wrong_arrows(found) == ["pocketrec.runtime.a imports pocketrec.export.b"]


def test_a_borrowed_private_name_is_found(house):
    found = house(export__a="from pocketrec.export.b import _x", export__b="_x = 1")
    assert borrowed(found) == ["pocketrec.export.a imports pocketrec.export.b._x"]
