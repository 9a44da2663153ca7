import json

import numpy as np
import pytest

from reelmill.eval.generation import Clip
from reelmill.eval.generation.media_files import read_settings
from reelmill.eval.generation.pages import write_page

SETTINGS = {"prompt": "a --> b <!-- ", "seed": 1}
PARTS = [
    "First <script>alert(1)</script> & more\n\nSecond",
    Clip(np.zeros((1, 8, 16, 3), dtype=np.uint8)),
    Clip(np.zeros((4, 16, 16, 3), dtype=np.uint8), 8.0),
]


@pytest.mark.parametrize("ending", [".md", ".html"])
def test_a_page_names_its_files_and_quotes_what_was_said(ending, tmp_path):
    files = write_page(PARTS, tmp_path / "deep" / f"my story{ending}", SETTINGS)
    assert [file.name for file in files] == ["my story-1.png", "my story-2.mp4"]
    assert [read_settings(file) for file in files] == [SETTINGS] * 2
    text = (tmp_path / "deep" / f"my story{ending}").read_text()
    assert "<script>" not in text and "First &lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in text
    assert text.index("Second") < text.index("my story-1.png") < text.index("my story-2.mp4")
    comment = text.split("<!--")[1].split("-->")[0]
    assert "--" not in comment and json.loads(comment) == SETTINGS
    assert ("<p>" in text) == (ending == ".html")
