"""A small dump and a light recipe: every stage of the pipeline, few seconds."""

import io
import json
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import duckdb
from PIL import Image
from rich.console import Console
from videos import scene_frames, textured, write_video

from reelmill.config import to_toml
from reelmill.orchestration.plan import PlanConfig
from reelmill.pipelines.curate import recipes
from reelmill.pipelines.curate.run import CurateOptions
from reelmill.pipelines.curate.run import curate as run

TABLES = ("items", "samples", "verdicts", "captions", "failures", "tokens")


def write_dump(folder: Path, first: int = 0, videos: int = 5) -> Path:
    """`videos` clips of two scenes, images, texts, a tar, a corrupt file and a duplicate, seeded from `first`."""
    folder.mkdir(parents=True)
    for n in range(first, first + videos):
        write_video(folder / f"v{n}.mp4", scene_frames([(n, 60), (n + 100, 51)]), options={"crf": "24", "g": "24"})
        sidecar = {"alt": f"texture {n} drifts", "licence": "CC0-1.0", "source": "tests", "url": f"https://x.test/{n}"}
        (folder / f"v{n}.json").write_text(json.dumps(sidecar))
        Image.fromarray(textured(n, 520, 560)).save(folder / f"i{n}.jpg", quality=90)
    (folder / f"copy{first}.mp4").write_bytes((folder / f"v{first}.mp4").read_bytes())
    (folder / f"corrupt{first}.mp4").write_bytes(b"this is no video")
    (folder / f"text{first}.txt").write_text("The mill grinds slowly. " * 20)
    with tarfile.open(folder / f"crawl{first}.tar", "w") as tar:
        for name, data in (("a.jpg", jpeg(first + 50)), ("a.txt", b"a picture in a tar"), ("b.txt", b"alone in a tar")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return folder


def still_dump(folder: Path, pictures: int = 3) -> Path:
    """Pictures, a copy of the first one, and two texts: what takes a second where no video is asked for."""
    folder.mkdir(parents=True)
    for n in range(pictures):
        (folder / f"p{n}.jpg").write_bytes(jpeg(n))
        (folder / f"p{n}.json").write_text(json.dumps({"alt": f"texture {n}", "licence": "CC0-1.0"}))
    (folder / "copy.jpg").write_bytes((folder / "p0.jpg").read_bytes())
    for n in range(2):
        (folder / f"t{n}.txt").write_text(f"The mill number {n} grinds slowly. " * 20)
    return folder


def jpeg(seed):
    buffer = io.BytesIO()
    Image.fromarray(textured(seed, 520, 520)).save(buffer, "JPEG")
    return buffer.getvalue()


def light_recipe(path: Path, **changes) -> Path:
    """Recipe `sample` with the cheap scorers only, small units and small frames, as a TOML file."""
    recipe = recipes.sample()
    recipe.plan = PlanConfig(unit_items=3)
    recipe.score.scorers = {"colourfulness": {}, "quality": {}, "motion_dis": {}}
    wanted = ("duration", "image_resolution", "colour", "motion")
    recipe.rules = {name: recipe.rules[name] for name in wanted}
    recipe.rules["motion"].min = 0.0
    recipe.tokens.area, recipe.tokens.fps = 64 * 64, 4.0
    for name, value in changes.items():
        setattr(recipe, name, value)
    path.write_text(to_toml(recipe))
    return path


def small_run(folder: Path) -> Path:
    """A run folder of a dump of two videos and a few other things, made in this process in about two seconds.

    Tests take the fixture of this name, a copy of one that the whole session shares.
    """
    curate_here(write_dump(folder / "dump", videos=2), folder / "out", light_recipe(folder / "light.toml"))
    return folder / "out"


def still_run(folder: Path) -> Path:
    """A run folder of `still_dump`; tests take the fixture of this name, as with `small_run`."""
    curate_here(still_dump(folder / "dump"), folder / "out", light_recipe(folder / "light.toml"))
    return folder / "out"


def curate_here(dump, out, recipe, *assignments, **options):
    """What the command does with a dump or a list of them, inline and in this process; returns what it prints."""
    console = Console(file=io.StringIO(), width=300)
    loaded = recipes.load(str(recipe), ["engine.executor=inline", *assignments])
    dumps = dump if isinstance(dump, list) else [Path(dump)]
    run(dumps, Path(out), loaded, CurateOptions(**options), console)
    return console.file.getvalue()


def curate(dump, out, recipe, *options, check=True, **how):
    """Run the command as a person would."""
    command = [sys.executable, "-m", "reelmill", "curate", str(dump), "--out", str(out), "--recipe", str(recipe)]
    return subprocess.run([*command, *map(str, options)], check=check, capture_output=True, text=True, **how)


def rows(out, table):
    """All rows of a table in a comparable order; plain DuckDB, no code of ours."""
    files = sorted(map(str, (Path(out) / table).rglob("*.parquet")))
    if not files:
        return []
    columns = "* EXCLUDE (created)" if table == "captions" else "*"  # the time of writing differs between runs
    query = f"SELECT {columns} FROM read_parquet($files, union_by_name = true) ORDER BY ALL"
    return duckdb.execute(query, {"files": [re.sub(r"([*?[])", r"[\1]", name) for name in files]}).fetchall()


def everything(out):
    return {table: rows(out, table) for table in TABLES}
