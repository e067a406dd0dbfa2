"""Imports go down the rows of the architecture, without a circle."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

import mutualnet
from mutualnet import runtime

ROOT = Path(mutualnet.__file__).parent

TABLE = (Path(__file__).resolve().parents[1] / "README.md").read_text()
ROWS = re.findall(r"^\| [^|`]+ \| ((?:`\w+/?` ?)+)\|", TABLE, re.MULTILINE)
ORDER = [*re.findall(r"\w+", " ".join(ROWS)), "__main__"]
"""A module imports only from modules before it; inside a folder, from its own too."""
PRIVATE = (
    "cli",
    "commands",
    "config",
    "data",
    "export",
    "heads",
    "run_directory",
    "runtime",
    "search",
    "supernet",
    "tabulation",
    "training",
)
"""Folders whose files others reach by the names that the folder hands on."""

NO_TORCH = [*re.findall(r"\w+", ROWS[0]), "checksums", "file_mode"]


def _module_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


TESTS = Path(__file__).parent
TESTED_ELSEWHERE = {
    # Parts of one pass, whose result as a whole is compared with another library's.
    "supernet/op_*": "supernet/test_op_rules.py",
    "supernet/capture": "supernet/test_op_rules.py",
    "supernet/examples": "supernet/test_elastic_part.py",
    "supernet/grouping": "supernet/test_tracing.py",
    "supernet/layers": "supernet/test_tracing.py",
    "supernet/meta_copy": "supernet/test_tracing.py",
    "supernet/sizes": "supernet/test_tracing.py",
    "supernet/verify": "supernet/test_tracing.py",
    "supernet/module_calls": "supernet/test_find_blocks.py",
    "supernet/narrow": "supernet/test_supernet.py",
    # One subject that has a file for each of its claims.
    "supernet/weight_sharing": "supernet/test_gradients.py",
    "supernet/weights_version": "supernet/test_gradients.py",
    "training/setup": "training/test_module.py",
    "training/learning": "training/test_peers_module.py",
    "training/networks": "test_pretrained.py",
    "training/dry_run": "training/test_train.py",
    "tabulation/full_table": "test_evaluation.py",
    "tabulation/inputs": "tabulation/test_race_table.py",
    # The same claims over all of a kind.
    "recipes/*": "recipes/test_recipes.py",
    "config/teaching": "recipes/test_peer_recipes.py",
    "models/building_blocks": "models/test_cifar.py",
    "models/cifar_densenet": "models/test_cifar_resnet.py",
    "tasks/base": "tasks/test_classification.py",
    "tasks/detector_*": "tasks/test_detection.py",
    "tasks/known": "test_task_seam.py",
    "tasks/scaling": "tasks/test_classification.py",
    "data/clip_*": "data/test_clips.py",
    "clip_steps": "runtime/test_video_artifacts.py",
    "data/coco_*": "data/test_coco.py",
    "data/scaled_objects": "data/test_coco.py",
    "data/class_folders": "data/test_folders.py",
    "data/files": "data/test_listed.py",
    "data/multilabel": "tasks/test_multilabel.py",
    "data/shares": "test_selection.py",
    "commands/report": "test_html_report.py",
    # A few lines that others' tests run.
    "commands/recipes": "cli/test_main.py",
    "config/choices": "config/test_data.py",
    "config/clips": "recipes/test_video.py",
    "run_directory/files": "run_directory/test_run_info.py",
    "score": "tasks/test_classification.py",
    "__main__": "test_distributed.py",
}
"""Modules, or patterns of them, without a test file of their name, and where their tests are."""


def _is_for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def _is_module(name: str) -> bool:
    path = ROOT.parent.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def _imports(path: Path) -> set[str]:
    """Full names of what a file imports, inside functions too, but for type checkers' blocks."""
    found: set[str] = set()
    todo: list[ast.AST] = [ast.parse(path.read_text())]
    while todo:
        node = todo.pop()
        if _is_for_types_only(node):
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                part = f"{node.module}.{alias.name}"
                found.add(part if _is_module(part) else node.module)
        todo.extend(ast.iter_child_nodes(node))
    return found


def test_every_module_has_its_place():
    assert {_module_of(path) for path in FILES} == set(ORDER)


def test_every_module_has_its_tests():
    """In a file of its name, in the folder of the same name."""
    modules = [path.relative_to(ROOT) for path in FILES if path.name != "__init__.py"]
    without = [
        str(module.with_suffix(""))
        for module in modules
        if not (TESTS / module.parent / f"test_{module.name}").is_file()
    ]
    used = {pattern for pattern in TESTED_ELSEWHERE for name in without if fnmatch(name, pattern)}
    assert [name for name in without if not any(fnmatch(name, p) for p in used)] == []
    assert used == set(TESTED_ELSEWHERE), "modules that have tests of their name need no other"
    for place in TESTED_ELSEWHERE.values():
        assert (TESTS / place).is_file(), place


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down_only(path):
    here = ORDER.index(_module_of(path))
    for name in _imports(path):
        if name.startswith("mutualnet."):
            there = name.split(".")[1]
            assert ORDER.index(there) <= here, f"{path} imports {name}"


def test_only_a_package_lists_its_names():
    """A leading underscore says private; `__all__` is for the names that a package hands on."""
    for path in [*FILES, *(Path(__file__).resolve().parents[1] / "benchmarks").glob("*.py")]:
        names = {
            target.id
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        if path.name != "__init__.py":
            assert "__all__" not in names, f"{path} has __all__"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_of_a_folder_are_private_to_it(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            parts = name.split(".")
            if parts[0] == "mutualnet" and len(parts) > 2 and parts[1] in PRIVATE:
                assert _module_of(path) == parts[1], f"{path} imports {name}"


def test_files_of_a_folder_have_no_circle():
    names = {
        "mutualnet."
        + ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p
        for p in FILES
    }
    edges = {name: {i for i in _imports(path) if i in names} for name, path in names.items()}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"a circle of imports: {' -> '.join((*path, name))}"
        if name not in done:
            for other in edges[name] - {name}:
                visit(other, (*path, name))
            done.add(name)

    for name in names:
        visit(name, ())


@pytest.mark.parametrize("name", NO_TORCH)
def test_values_come_without_torch(name):
    code = (
        f"import sys, mutualnet, mutualnet.{name}; "
        "bad = {'torch', 'lightning', 'timm', 'PIL'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_public_names_load_and_others_do_not():
    for name in mutualnet.__all__:
        assert getattr(mutualnet, name) is not None
    assert set(mutualnet.__all__) <= set(dir(mutualnet))
    with pytest.raises(AttributeError, match="has no attribute 'supernett'"):
        mutualnet.supernett  # noqa: B018


def test_an_old_public_name_works_and_says_the_new_one():
    with pytest.warns(DeprecationWarning, match=r"mutualnet.RULES is now mutualnet.METHODS"):
        rules = mutualnet.RULES
    assert rules == {name: method.rule for name, method in mutualnet.METHODS.items()}


@pytest.mark.parametrize(
    ("old", "new"), [("Latency", "LatencyPercentiles"), ("LabelledImages", "EvaluationImages")]
)
def test_old_names_of_the_runtime_work_and_say_the_new_ones(old, new):
    with pytest.warns(DeprecationWarning, match=rf"{old} is now mutualnet.runtime.{new}"):
        found = getattr(runtime, old)
    assert found is getattr(runtime, new)
    with pytest.raises(AttributeError, match="has no attribute 'Latencyy'"):
        runtime.Latencyy  # noqa: B018
