"""The structure that a reader relies on: imports go one way, files stay readable, the root has no strays."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "epilm"

LAYERS = (
    ("errors",),
    ("config", "storage", "hashing", "memory"),
    ("session",),
    ("runs",),
    ("genome",),
    ("tokens",),
    ("corpus",),
    ("labels",),
    ("histone",),
    ("ngrams",),
    ("masking",),
    ("models",),
    ("evaluate",),
    ("tasks",),
    ("train",),
    ("tune",),
    ("predict",),
    ("baselines",),
    ("regress",),
    ("simulate",),
    ("studies",),
    ("expression",),
    ("report",),
    ("bench",),
    ("demo",),
    ("stages",),
    ("cli",),
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
EXPORTED = ("configuration_ebert", "modeling_ebert", "tokenization_ebert")
"""Files of models/ that an export carries: they must run where epilm is not installed."""

SOURCES = sorted(PACKAGE.rglob("*.py"))


def module_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Full names of everything that a file imports, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", [p for p in SOURCES if p.name != "__init__.py" or p.parent != PACKAGE], ids=str)
def test_imports_go_one_way(path):
    own = module_of(path)
    parts = {name.split(".")[1] for name in imported(path) if name.startswith("epilm.")} - {"__version__"}
    unknown = parts - set(RANK)
    assert not unknown, f"{unknown} has no place in the import order"
    later = {part for part in parts if RANK[part] > RANK[own]}
    assert not later, f"{own} imports {later}, which come later"


def test_every_package_has_a_place_in_the_order():
    assert {module_of(path) for path in SOURCES} - {"__init__"} == set(RANK)


@pytest.mark.parametrize("name", EXPORTED)
def test_exported_files_need_only_what_every_transformers_user_has(name):
    tops = {full.split(".")[0] for full in imported(PACKAGE / "models" / f"{name}.py")}
    assert tops <= {
        "__future__",
        "torch",
        "transformers",
        "numpy",
        "math",
        "dataclasses",
        "typing",
        "json",
        "os",
        "itertools",
        "re",
        "collections",
    }


@pytest.mark.parametrize("path", [*SOURCES, *sorted((ROOT / "tests").rglob("*.py"))], ids=str)
def test_a_file_is_read_in_one_sitting(path):
    assert len(path.read_text().splitlines()) <= 450


def test_only_the_command_line_prints():
    def prints(path: Path) -> bool:
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        return any(isinstance(call.func, ast.Name) and call.func.id == "print" for call in calls)

    allowed = {PACKAGE / "cli.py", PACKAGE / "bench" / "__main__.py"}
    assert [path for path in SOURCES if prints(path) and path not in allowed] == []


def test_xgboost_ray_is_imported_in_one_place():
    users = {
        p.relative_to(PACKAGE).as_posix() for p in SOURCES if any(n.startswith("xgboost_ray") for n in imported(p))
    }
    assert users <= {"regress/boost.py", "regress/light_actors.py"}
