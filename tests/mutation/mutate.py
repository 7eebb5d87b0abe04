"""Makes mutants: the same module with one small thing wrong, which some test must notice."""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
}
_REMOVABLE = (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Raise, ast.Delete)


@dataclass(frozen=True)
class Mutant:
    """A module with one thing changed. `name` says where and what, and stays the same when lines move."""

    module: str
    name: str
    line: int
    tree: ast.Module


def mutants(path: Path, module: str) -> list[Mutant]:
    """Return every mutant of a module, in the order of its text."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    seen: Counter[str] = Counter()
    found = []
    for place, changed in _changes(tree):
        mutated, (before, after) = _with(tree, place, changed)
        name = f"{module} {_owner(tree, place)}: {before} -> {after}"
        seen[name] += 1
        if seen[name] > 1:
            name += f" (#{seen[name]})"
        found.append(Mutant(module, name, place.lineno, mutated))
    return found


Place = ast.expr | ast.stmt


def _changes(tree: ast.Module) -> Iterator[tuple[Place, ast.AST]]:
    """Yield each node that can be changed with what stands in its place."""
    for node in _code(tree):
        if isinstance(node, ast.Compare):
            for number, op in enumerate(node.ops):
                other = copy.deepcopy(node)
                other.ops[number] = _COMPARISONS[type(op)]()
                yield node, other
        elif isinstance(node, ast.BoolOp):
            other_op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
            yield node, ast.BoolOp(other_op, copy.deepcopy(node.values))
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield node, copy.deepcopy(node.operand)
        elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            left, right = copy.deepcopy(node.left), copy.deepcopy(node.right)
            yield node, ast.BinOp(left, _ARITHMETIC[type(node.op)](), right)
        elif isinstance(node, ast.Constant):
            for value in _other_values(node.value):
                yield node, ast.Constant(value)
        elif isinstance(node, (ast.If, ast.While, ast.IfExp)):
            test = copy.deepcopy(node.test)
            yield node.test, ast.UnaryOp(ast.Not(), test)
        elif isinstance(node, ast.Return) and node.value is not None and not _is_none(node.value):
            yield node, ast.Return(ast.Constant(None))
        elif isinstance(node, ast.AnnAssign) and node.value is None:
            continue  # it says something, and does nothing
        elif isinstance(node, _REMOVABLE) or (isinstance(node, ast.Expr) and not _is_text(node.value)):
            yield node, ast.Pass()


def _code(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the nodes that do something: no docstrings, annotations, imports, parts of messages."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, (ast.Import, ast.ImportFrom, ast.JoinedStr)) or _is_table_of_contents(node):
            continue
        if isinstance(node, ast.Assign) and node in tree.body and isinstance(node.value, ast.Subscript):
            continue  # the name of a type
        if isinstance(node, ast.Expr) and _is_text(node.value):
            continue
        yield node
        inner = list(ast.iter_child_nodes(node))
        for attribute in ("annotation", "returns"):
            unused = getattr(node, attribute, None)
            inner = [child for child in inner if child is not unused]
        waiting = inner + waiting


def _is_table_of_contents(node: ast.AST) -> bool:
    return isinstance(node, ast.Assign) and any(
        isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets
    )


def _other_values(value: object) -> list[object]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, (int, float)):
        return [value + 1]
    if isinstance(value, (str, bytes)) and value:
        return ["" if isinstance(value, str) else b""]
    return []


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _with(tree: ast.Module, place: Place, changed: ast.AST) -> tuple[ast.Module, tuple[str, str]]:
    """Return a copy of the tree with `changed` in `place`, and both in words."""
    number = next(index for index, node in enumerate(ast.walk(tree)) if node is place)
    mutated = copy.deepcopy(tree)
    target = next(node for index, node in enumerate(ast.walk(mutated)) if index == number)
    before, after = ast.unparse(place), ast.unparse(ast.fix_missing_locations(changed))

    class Swap(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> ast.AST:
            return ast.copy_location(changed, node) if node is target else self.generic_visit(node)

    made = ast.fix_missing_locations(Swap().visit(mutated))
    return made, (before.splitlines()[0], after.splitlines()[0])


def _owner(tree: ast.Module, place: ast.AST) -> str:
    """Return the class and function that a node stands in, with dots."""
    found: list[str] = []

    def look(node: ast.AST, names: list[str]) -> None:
        if node is place:
            found.extend(names)
            return
        for child in ast.iter_child_nodes(node):
            own = isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
            look(child, [*names, child.name] if own else names)  # type: ignore[attr-defined]

    look(tree, [])
    return ".".join(found) or "(module)"
