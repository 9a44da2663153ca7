"""What `curate` tells a person while it runs."""

import io

import pytest
from dumps import light_recipe
from rich.console import Console

from reelmill.errors import DataError
from reelmill.pipelines.curate import recipes
from reelmill.pipelines.curate.run import CurateOptions, curate


def told(dump, out, recipe):
    console = Console(file=io.StringIO(), width=200)
    curate([dump], out, recipes.load(str(recipe), ["engine.executor=inline"]), CurateOptions(), console)
    return console.file.getvalue()


def test_a_folder_of_links_to_folders_says_so(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "words.txt").write_text("Words that lie behind a link. " * 9)
    dump = tmp_path / "dump"
    dump.mkdir()
    for name in ("one", "two"):
        (dump / name).symlink_to(tmp_path / "real")
    (dump / "phone.heic").write_text("x")
    recipe = light_recipe(tmp_path / "light.toml")
    with pytest.raises(
        DataError, match=r"nothing to curate in .*dump: 0 new .*; not read: 2 links to folders, 1 \.heic\. "
    ):
        told(dump, tmp_path / "out", recipe)
    lines = told(dump / "one", tmp_path / "out", recipe)
    assert "1 new items in 1 units" in lines
    assert "nothing to curate" not in lines
    lines = told(dump, tmp_path / "out", recipe)  # beside what is there already
    assert "0 new items in 0 units, 0 known; not read: 2 links to folders, 1 .heic" in lines
    assert "links to folders are not followed: name the folders themselves as dumps" in lines
    assert "nothing to curate in" in lines
