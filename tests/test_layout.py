"""The rooms: six root folders make one import package, imports go down only."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("pipelines", "curation", "tokenize", "train", "eval", "orchestration")
GROUND = "ground"
ALLOWED = {
    GROUND: {GROUND},
    "curation": {GROUND},
    "orchestration": {GROUND, "curation", "tokenize"},
    "tokenize": {GROUND},
    "train": {GROUND, "tokenize"},
    "eval": {GROUND, "tokenize", "train"},
    "pipelines": {GROUND, *ROOMS},
}
PIPELINES = {
    "tables": set(),
    "shared_options": set(),
    "web": set(),
    "models": set(),
    "clips": set(),
    "doctor": set(),
    "sampledump": {"shared_options"},
    "generate": {"shared_options"},
    "train": {"shared_options"},
    "tokenizer": set(),
    "report": {"tables", "shared_options"},
    "curate": {"tables", "shared_options", "report"},
    "recipes": {"curate"},
    "ledger": {"tables", "shared_options", "report", "curate"},
    "imports": {"curate", "report"},
    "prefer": {"tables", "shared_options", "generate", "web"},
    "serve": {"shared_options", "generate", "web"},
    "api": {"curate", "clips"},
}
"""What a room inside `pipelines` may import of the others. `cli` is the one list of commands and imports them all."""
DOORS = {"reelmill/__main__.py": "reelmill.pipelines.cli", "reelmill/__init__.py": "reelmill.pipelines.api"}
"""The two ways in: on the ground floor, they alone name what lies above it."""
LIGHT = {"torch", "numpy", "pyarrow", "safetensors", "tiktoken"}
KERNELS = {"train/loss_kernels.py": {"triton"}}
"""What files that are imported only where a GPU runs them need beside."""


def modules():
    for room in ("reelmill", *ROOMS):
        for path in sorted((ROOT / room).rglob("*.py")):
            yield pytest.param(room, path, id=str(path.relative_to(ROOT)))


def imports(path, *, top_only):
    tree = ast.parse(path.read_text())
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize(("room", "path"), list(modules()))
def test_imports_go_down_only(room, path):
    here = GROUND if room == "reelmill" else room
    for name in imports(path, top_only=False):
        parts = name.split(".")
        if parts[0] == "reelmill" and not name.startswith(DOORS.get(str(path.relative_to(ROOT)), "no door")):
            target = parts[1] if len(parts) > 1 and parts[1] in ROOMS else GROUND
            assert target in ALLOWED[here] | {here}, f"{path} imports {name}"
        if parts[0] == "ray":
            assert room == "orchestration", f"only orchestration imports ray, not {path}"
        assert parts[0] not in set(ROOMS) - {"tokenize"}, f"{path} imports a room by its bare name"
        if parts[0] == "tokenize":
            assert room != "tokenize", (
                f"{path} imports the standard library's tokenize or its own room by its bare name"
            )


def pipeline_rooms():
    for path in sorted((ROOT / "pipelines").iterdir()):
        if path.name != "cli.py" and (path.suffix == ".py" or (path / "__init__.py").exists()):
            yield path


def test_every_room_of_pipelines_has_its_floor():
    assert sorted(path.stem for path in pipeline_rooms()) == sorted(PIPELINES)
    placed = set()
    for room, below in PIPELINES.items():  # top to bottom: what a room imports stands above it, so there is no cycle
        assert below <= placed, f"{room} imports what does not stand above it"
        placed.add(room)


@pytest.mark.parametrize("place", list(pipeline_rooms()), ids=lambda path: path.stem)
def test_rooms_of_pipelines_import_only_what_they_may(place):
    for path in [place] if place.is_file() else sorted(place.rglob("*.py")):
        for name in imports(path, top_only=False):
            parts = name.split(".")
            if parts[:2] == ["reelmill", "pipelines"]:
                assert parts[2] in PIPELINES[place.stem] | {place.stem}, f"{path} imports {name}"


@pytest.mark.parametrize(("room", "path"), [p for p in modules() if p.values[0] in ("tokenize", "train", "eval")])
def test_the_training_rooms_need_few_packages(room, path):
    found = {name.split(".")[0] for name in imports(path, top_only=True)}
    foreign = (
        found - LIGHT - KERNELS.get(str(path.relative_to(ROOT)), set()) - {"reelmill"} - set(sys.stdlib_module_names)
    )
    assert not foreign, f"{path} imports {foreign} at module level"


def test_no_room_has_an_init():
    assert not [room for room in ROOMS if (ROOT / room / "__init__.py").exists()]


def test_the_standard_tokenize_is_not_shadowed():
    code = "import tokenize, linecache; print(tokenize.open.__module__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "tokenize"


def test_packages_are_listed_as_they_lie():
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    tree = {"reelmill": "reelmill"}
    for init in sorted((ROOT / "reelmill").glob("*/**/__init__.py")):
        folder = init.parent.relative_to(ROOT).as_posix()
        tree[folder.replace("/", ".")] = folder
    for room in ROOMS:
        tree[f"reelmill.{room}"] = room
        for init in sorted((ROOT / room).rglob("__init__.py")):
            folder = init.parent.relative_to(ROOT).as_posix()
            tree[f"reelmill.{folder.replace('/', '.')}"] = folder
    assert sorted(config["packages"]) == sorted(tree)
    assert config["package-dir"] == tree


def test_type_checkers_see_every_room():
    for room in ROOMS:
        assert (ROOT / "typings" / "reelmill" / room).resolve() == (ROOT / room).resolve()


def test_help_imports_neither_torch_nor_ray():
    code = (
        "import sys, reelmill.pipelines.cli\n"
        "print([m for m in ('torch', 'ray', 'duckdb', 'cv2', 'pyarrow', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
