"""The layout of the package: few modules at its root, documented packages, imports in one direction, standard names."""

import ast
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from helpers.composing import ROOT

SRC = ROOT / "src"
PACKAGE = SRC / "oakleaf"
MOST_ROOT_MODULES = 8

ORDER = [  # from the lowest: a package may import those of earlier lines
    ("compat", "errors", "image_grid"),
    ("figures",),
    ("config",),
    ("runtime", "optim"),
    ("round",),  # networks return its CriticOutput
    ("networks",),
    ("data",),
    ("frozen",),
    ("conditioning",),
    ("losses",),
    ("augment",),
    ("games",),
    ("gan",),
    ("builder",),
    ("sampling",),
    ("metrics",),
    ("report",),
    ("callbacks", "export", "theory"),
    ("sweeps",),
    ("cli",),
    ("api",),
    ("__init__",),
]
RANKS = {name: rank for rank, names in enumerate(ORDER) for name in names}
SAME_RANK: dict[tuple[str, str], str] = {}  # (importing package, imported package of its rank): the reason

PRIVATE_NAMES = {
    "Verdict", "Voyage", "Telling", "Mismatch", "Mirror", "Mistake", "Dealt", "Deck", "Resident", "Streamed",
    "Together", "Stock", "Fit", "Finish", "Guard", "Drawer", "Evidence", "Glimpse", "Spared", "Adaptive", "Alone",
    "RIVAL", "steep", "sloped", "judges_singly", "owed", "charged", "faced", "paid", "pays", "due", "settle",
    "meet", "told", "asked", "foreseen", "sow", "belief", "undecided", "blurred", "beside", "whence", "homeless",
    "whole", "anew", "weighed", "exhausted", "vouch", "harmless", "hands", "deck", "dealt", "again", "ahead",
    "heal", "steer", "spoken", "placed", "begun", "behind", "abreast", "there", "wanted", "said", "apart",
    "watch_every", "in_a_row", "looks", "alike", "calm",
}  # fmt: skip


class Import(NamedTuple):
    """An import of one module of the package by another."""

    importer: str
    imported: str
    place: str

    def packages(self) -> tuple[str, str]:
        return package(self.importer), package(self.imported)


def module_name(path: Path) -> str:
    """Return the dotted name below oakleaf: `losses.terms`, `losses` for its `__init__`, "" for the root's."""
    return ".".join(part for part in path.relative_to(PACKAGE).with_suffix("").parts if part != "__init__")


def package(module: str) -> str:
    """Return the package or root module that a module belongs to."""
    return module.split(".")[0] or "__init__"


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported_modules(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """Yield the modules of the package that a statement imports, such as `losses.terms`."""
    assert not isinstance(node, ast.ImportFrom) or not node.level, "imports are absolute"
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    else:
        names = [f"{node.module}.{alias.name}" for alias in node.names]
    for name in names:
        if name == "oakleaf" or name.startswith("oakleaf."):
            module = name.removeprefix("oakleaf").removeprefix(".")
            while module not in FILES:  # a class or function: the module that it is imported from
                module = module.rpartition(".")[0]
            yield module


def imports() -> Iterator[Import]:
    """Yield every import, also those inside functions and of TYPE_CHECKING."""
    for module, path in FILES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                for imported in imported_modules(node):
                    if imported != module:
                        yield Import(module, imported, f"{path.relative_to(ROOT)}:{node.lineno}")


IMPORTS = list(imports())


def test_the_root_has_few_modules() -> None:
    modules = sorted(path.name for path in PACKAGE.glob("*.py"))
    assert len(modules) <= MOST_ROOT_MODULES, modules


@pytest.mark.parametrize("name", sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py")))
def test_every_package_has_a_docstring_of_a_full_sentence(name: str) -> None:
    docstring = ast.get_docstring(ast.parse((PACKAGE / name / "__init__.py").read_text())) or ""
    first = docstring.split("\n\n")[0].strip()
    assert first[:1].isupper() and first.endswith("."), docstring
    assert max(len(sentence.split()) for sentence in docstring.replace("\n", " ").split(". ")) >= 5, docstring


def test_every_package_is_in_the_order() -> None:
    assert {package(module) for module in FILES} <= RANKS.keys()


def test_imports_between_packages_go_one_way() -> None:
    """A package imports only those below it, and none of its own rank without a reason given here."""
    wrong = []
    for one in IMPORTS:
        importer, imported = one.packages()
        if importer == imported or (importer, imported) in SAME_RANK:
            continue
        if RANKS[imported] >= RANKS[importer]:
            direction = "upwards" if RANKS[imported] > RANKS[importer] else "sideways"
            wrong.append(f"{one.place}: {one.importer or 'oakleaf'} imports {one.imported or 'oakleaf'} ({direction})")
    assert not wrong, "\n".join(wrong)


def test_listed_exceptions_are_needed() -> None:
    assert SAME_RANK.keys() <= {one.packages() for one in IMPORTS}


def test_no_modules_import_each_other_in_a_cycle() -> None:
    """Imports within functions and of TYPE_CHECKING count as well."""
    graph: dict[str, set[str]] = {module: set() for module in FILES}
    for one in IMPORTS:
        graph[one.importer].add(one.imported)
    places = {(one.importer, one.imported): one.place for one in IMPORTS}
    cycles = [
        "; ".join(f"{places[pair]} imports {pair[1] or 'oakleaf'}" for pair in pairwise([*path, path[0]]))
        for path in shortest_cycles(graph)
    ]
    assert not cycles, "\n".join(cycles)


def shortest_cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return a shortest cycle through each module that is in one, each cycle once, from its first module by name."""
    found: dict[frozenset[str], list[str]] = {}
    for start in sorted(graph):
        paths, seen = [[start]], {start}
        while paths:
            path = paths.pop(0)
            if start in graph[path[-1]]:
                first = path.index(min(path))
                found.setdefault(frozenset(path), path[first:] + path[:first])
                break
            following = [other for other in sorted(graph[path[-1]]) if other not in seen]
            seen.update(following)
            paths += [[*path, other] for other in following]
    return list(found.values())


def defined_names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield name and line of every class, function, argument, variable and attribute that is defined."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno


def test_names_are_those_of_the_field() -> None:
    """The private vocabulary of version 0.1 stays away; use the words of the papers, of torch, Lightning and Hydra."""
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sorted(SRC.rglob("*.py"))
        for name, line in defined_names(ast.parse(path.read_text()))
        if name.lstrip("_") in PRIVATE_NAMES
    ]
    assert not found, "\n".join(found)


def test_the_checks_find_what_they_look_for() -> None:
    tree = ast.parse("class Verdict: ...\ndef f(told): self.paid = whole = 1")
    assert {name for name, _ in defined_names(tree)} & PRIVATE_NAMES == {"Verdict", "told", "paid", "whole"}
    assert shortest_cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [["b", "c"]]
    (node,) = ast.parse("from oakleaf.losses import terms, Nothing").body
    assert isinstance(node, ast.ImportFrom)
    assert list(imported_modules(node)) == ["losses.terms", "losses"]
