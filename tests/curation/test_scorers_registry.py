"""Scorers by name: options, wrong names, one's own scorer, and what every scorer owes the contract."""

import numpy as np
import pytest

from reelmill.curation.interfaces import Frames, Sample
from reelmill.curation.scorers import SCORERS, create, scorer_class
from reelmill.errors import ConfigError


def sample(images, runs=None, kind="video"):
    images = np.asarray(images, np.uint8)
    runs = np.zeros((0, 3, 8, 8), np.uint8) if runs is None else np.asarray(runs, np.uint8)
    frames = Frames(images, np.arange(len(images)) / 2, runs)
    return Sample("s", "i", kind, 0.0, len(images) / 2, 64, 64, 30.0, frames)


def test_options_fill_the_config_of_a_scorer():
    scorer = create("motion_raft", {"pairs": "all", "iterations": 12})
    assert (scorer.config.pairs, scorer.config.iterations, scorer.config.spaced) == ("all", 12, 4)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("motion_raft", {"iteration": 12}),
        ("motion_raft", {"pairs": "most"}),
        ("text", {"provider": "tesseract"}),
        ("quality", {"threshold": 0.3}),
        ("beauty", {}),
        ("reelmill.errors:DataError", {}),
        ("no_such_package.scorers:Mine", {}),
    ],
)
def test_wrong_names_and_options_are_config_errors(name, options):
    with pytest.raises(ConfigError):
        create(name, options)


def test_a_scorer_of_ones_own_is_named_by_its_module():
    assert scorer_class("reelmill.curation.scorers.image_quality:Quality") is scorer_class("quality")


@pytest.mark.parametrize(
    "name", [name for name in SCORERS if name != "motion_raft" and "image" in scorer_class(name).kinds]
)
def test_without_frames_every_column_is_null(name):
    scorer = create(name)
    scorer.setup()
    (row,) = scorer.score([sample(np.zeros((0, 64, 64, 3)))])
    assert set(row) == set(scorer.columns)
    assert set(row.values()) == {None}


def test_the_columns_are_those_of_the_samples_view():
    scorers = [scorer_class(name) for name in SCORERS]
    columns = [column for scorer in scorers if scorer.kinds != ("text",) for column in scorer.columns]
    assert sorted(columns) == [
        "aesthetic_score",
        "alt_agreement",
        "blockiness",
        "blur",
        "border_share",
        "camera",
        "camera_pan",
        "camera_roll",
        "camera_tilt",
        "camera_zoom",
        "chroma",
        "clip_repeated",
        "colourfulness",
        "combing",
        "contaminated_by",
        "crop_bottom",
        "crop_left",
        "crop_right",
        "crop_top",
        "embedding_model",
        "face_area",
        "face_count",
        "face_steady",
        "hps_score",
        "luma",
        "motion_dis",
        "motion_jitter",
        "motion_raft",
        "motion_raft_error",
        "motion_raft_side",
        "mps_score",
        "noise",
        "nsfw",
        "palette_share",
        "phash",
        "picture_class",
        "quality_score",
        "repeated_frames",
        "static_share",
        "text_area",
        "text_boxes",
        "text_frames",
        "thumbnail",
        "vivid_share",
        "watermark_area",
        "watermark_bottom",
        "watermark_left",
        "watermark_right",
        "watermark_top",
    ]


def test_a_module_that_has_another_name_now_is_named(tmp_path, monkeypatch):
    (tmp_path / "earlier_scorers.py").write_text("from reelmill.curation.stage import Scorer\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"No module named 'reelmill\.curation\.stage'; it is now .*\.interfaces"):
        scorer_class("earlier_scorers:Mine")
