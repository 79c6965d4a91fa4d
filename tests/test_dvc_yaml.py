"""dvc.yaml against what the stages really import: DVC does not follow Python imports itself."""

import ast
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parent.parent
STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]


def sources_of(module: str) -> set[str]:
    """A module's own file and its packages' __init__ files, relative to the root."""
    parts = module.split(".")
    found = {
        "/".join([*parts[:depth], "__init__.py"])
        for depth in range(1, len(parts) + 1)
        if (ROOT.joinpath(*parts[:depth]) / "__init__.py").exists()
    }
    return found | (
        {"/".join(parts) + ".py"} if ROOT.joinpath(*parts).with_suffix(".py").exists() else set()
    )


def imported_by(source: str) -> set[str]:
    """The project's files that a file imports, wherever in it the import stands."""
    modules = set()
    for node in ast.walk(ast.parse((ROOT / source).read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {
        file
        for module in modules
        if module.split(".")[0] in ("moe", "stages")
        for file in sources_of(module)
    }


def closure(source: str) -> set[str]:
    reached, new = set(), {source}
    while new:
        reached |= new
        # moe/__init__.py loads MoE when somebody asks for it; a stage asks moe.layer.
        followed = new - {"moe/__init__.py"}
        new = {file for known in followed for file in imported_by(known)} - reached
    return reached


# What a stage hands to MLflow by name instead of importing it
BY_NAME = {"track": {"moe/served.py"}}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_every_module_it_imports(stage: str) -> None:
    deps = {dep for dep in STAGES[stage]["deps"] if dep.startswith(("moe/", "stages/"))}
    # An empty __init__.py says nothing that a result could depend on.
    code = {file for file in closure(f"stages/{stage}.py") if (ROOT / file).read_text().strip()}
    assert {dep for dep in deps if dep.endswith(".py")} == code | BY_NAME.get(stage, set())
