"""Take one rule out of the gate: some hostile file must then get through, or get another answer.

A rule is a raise, one side of an `and` or `or`, or the condition of a config key. Each is removed in turn
from the syntax tree of the gate's own modules. A rule without such a file is untested, or not needed.
"""

import ast
import inspect
import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType, ModuleType
from typing import Any

import pytest

from modules_registry.core import adapter_config, adapter_file, gate, strict_json, tensor_names
from modules_registry.core.errors import GateRefusal
from tests.attacks.adapters import BASE_SHAPES
from tests.attacks.gate_cases import HARMLESS, HOSTILE, Case

MODULES = (strict_json, adapter_file, adapter_config, tensor_names, gate)  # each imports only those before it
# Rules about real files, which the corpus of bytes cannot show; test_gate.py and test_adapter_file.py do.
ABOUT_FILES = {"_open_regular", "_read_exactly", "read_base", "plan_folder"}
# Which kind of checkpoint a file is decides the advice; it is refused either way.
SAYS_WHAT_IT_IS = {"is_pickle"}
# What refuses nothing, but reads and repairs; test_gate.py holds it against what it must say. And a file that
# is too short is noticed twice: in the header, for those who read no more, and where the values are read.
REFUSES_NOTHING = {
    *("find_in_pattern", "check_config", "repair_types", "_require_last_tensor"),
    *("_without_module", "_with_prefix", "are_layers"),
    *("shapes_by_factor", "_with_targets", "_shortest_targets"),
}

pytestmark = pytest.mark.slow  # the whole corpus, again and again

CheckAdapter = Callable[..., Any]


@dataclass(frozen=True)
class Rule:
    module: ModuleType
    number: int  # of the removable nodes of the module
    title: str
    code: str  # of the refusal, when it stands in the same statement


class Remover(ast.NodeTransformer):
    """Counts the removable nodes, and removes the one with the wanted number."""

    def __init__(self, wanted: int | None = None) -> None:
        self.wanted = wanted
        self.found: list[tuple[str, ast.AST]] = []
        self.function = ""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        outside, self.function = self.function, node.name
        if node.name not in ABOUT_FILES | REFUSES_NOTHING | SAYS_WHAT_IT_IS:
            self.generic_visit(node)
        self.function = outside
        return node

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return ast.copy_location(ast.Pass(), node) if self._is_wanted(node) else node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        self.generic_visit(node)
        kept = [value for value in node.values if not self._is_wanted(value)]
        return node if len(kept) > 1 and len(kept) == len(node.values) else self._joined(node, kept)

    def _joined(self, node: ast.BoolOp, kept: list[ast.expr]) -> ast.expr:
        return kept[0] if len(kept) == 1 else ast.copy_location(ast.BoolOp(node.op, kept), node)

    def _is_wanted(self, node: ast.AST) -> bool:
        self.found.append((self.function, node))
        return len(self.found) - 1 == self.wanted


def source_of(module: ModuleType) -> ast.Module:
    return ast.parse(inspect.getsource(module))


def rules() -> Iterator[Rule]:
    for module in MODULES:
        remover = Remover()
        remover.visit(source_of(module))
        for number, (function, node) in enumerate(remover.found):
            short = module.__name__.rpartition(".")[2]
            text = " ".join(ast.unparse(node).split())
            yield Rule(module, number, f"{short}.{function}: {text[:80]} #{number}", first_text(node))


def first_text(node: ast.AST) -> str:
    texts = (part.value for part in ast.walk(node) if isinstance(part, ast.Constant))
    return next((text for text in texts if isinstance(text, str)), "")


def gate_without(rule: Rule | None) -> CheckAdapter:
    """Load the gate's modules anew, one of them without one rule."""
    kept = {module.__name__: sys.modules[module.__name__] for module in MODULES}
    try:
        for module in MODULES:
            fresh = ModuleType(module.__name__)
            sys.modules[module.__name__] = fresh
            exec(code_of(module, rule.number if rule and module is rule.module else None), fresh.__dict__)
    finally:
        sys.modules.update(kept)
    check: CheckAdapter = fresh.__dict__["check_adapter"]
    return check


@lru_cache(maxsize=16)  # the modules as they are, and the last few without a rule
def code_of(module: ModuleType, without: int | None) -> CodeType:
    tree: ast.AST = source_of(module)
    if without is not None:
        tree = ast.fix_missing_locations(Remover(without).visit(tree))
    return compile(tree, module.__name__, "exec")


def answer(check: CheckAdapter, case: Case) -> str:
    shapes = BASE_SHAPES if case.base_known else None
    try:
        check(io.BytesIO(case.config), io.BytesIO(case.weights), shapes, base_weights=case.base_weights)
    except GateRefusal as refusal:
        return refusal.code
    except Exception as error:  # noqa: BLE001  a gate that breaks does not keep its promise either
        return repr(error)
    return ""


def is_missed(check: CheckAdapter, code: str) -> bool:
    """Whether some case shows that a rule is gone; those of its own code, and the small, are asked first."""

    def eagerness(case: Case) -> tuple[bool, int]:
        return case.code != code, len(case.config) + len(case.weights)

    return any(answer(check, case) != case.code for case in sorted(HOSTILE + HARMLESS, key=eagerness))


def test_the_gate_loaded_anew_answers_like_the_gate():
    assert not is_missed(gate_without(None), "")


@pytest.mark.parametrize("rule", list(rules()), ids=lambda rule: rule.title)
def test_removing_a_rule_lets_a_hostile_file_through(rule):
    assert is_missed(gate_without(rule), rule.code)


@pytest.mark.parametrize("key", sorted(adapter_config.NEUTRAL_KEYS))
def test_removing_the_condition_of_a_config_key_lets_a_hostile_file_through(key, monkeypatch):
    rule = adapter_config.NEUTRAL_KEYS[key]
    open_rule = adapter_config.Neutral(lambda value: True, rule.code, rule.message)
    monkeypatch.setattr(adapter_config, "NEUTRAL_KEYS", adapter_config.NEUTRAL_KEYS | {key: open_rule})
    assert is_missed(gate.check_adapter, rule.code)


@pytest.mark.parametrize("key", sorted(adapter_config.NEUTRAL_KEYS))
def test_a_config_key_that_nobody_knows_is_not_taken_for_a_known_one(key, monkeypatch):
    """Each known key is known for a reason: some value of it is refused in words of its own."""
    without = {name: rule for name, rule in adapter_config.NEUTRAL_KEYS.items() if name != key}
    monkeypatch.setattr(adapter_config, "NEUTRAL_KEYS", without)
    assert is_missed(gate.check_adapter, "")
