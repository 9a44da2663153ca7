"""Junk among captions is recognised, honest captions are left alone, languages are told apart by script and words."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelmill.curation.captions.checks import language, n_words, problem, whole_sentences
from reelmill.curation.captions.config import CaptionFrames
from reelmill.curation.captions.frames import clips
from reelmill.curation.captions.prompts import load_prompts, prompt_language
from reelmill.pipelines.sampledump import contents

HONEST = [
    "A white windmill with four red-brown sails on an autumn hill under white clouds.",
    "Snow falls at night on a village of small houses with yellow windows under a full moon.",
    "A red barn, a blue sky, green grass, a white fence, two horses, and a dog on the left.",
    "A horizontal video, 4.0 seconds, in vivid colors, with some motion.",
    "Star trails over Mount Fuji",
    "texture 3 drifts",
    "I could not see the match, so we filmed the crowd",  # a person's words, no model's refusal of a task
    "Row, row, row your boat gently down the stream",
    "A man says: I'm a doctor. He writes 12.5 on a board, then 13.0.",
    "The camera pans left. The mill turns. The camera pans right. The mill stands still.",
    "Version 2.0 of the robot picks up 3 boxes",
    "一只猫坐在窗台上，看着外面的雨。",
    "镜头缓慢向右平移，远处的山、近处的树和湖面依次进入画面，天空是淡蓝色的。",
]
JUNK = {
    "empty": [None, "", "   ", "...", "—", "\n\t"],
    "garbled": ["A mill \ufffd\ufffd on a hill.", "\ufffd`7] lan go ti"],
    "file_name": [
        "IMG_0123.jpg", "DSC 0042", "img-20240101-wa0007.jpeg", "my holiday video.mp4", "Screenshot 2024-01-01",
        "d41d8cd98f00b204e9800998ecf8427e", "123e4567-e89b-12d3-a456-426614174000", "2023-01-02", "final_cut_v7",
        "PXL_20230101_123456789", "untitled 3",
    ],
    "refusal": [
        "I'm sorry, but I can't help with that.", "I’m sorry, I cannot describe this image.",
        "I cannot identify people in images.", "As an AI language model, I do not watch videos.",
        "I'm unable to view the video you mention.", "I apologize for the confusion, but there are no frames.",
        "Unfortunately no image was provided.", "抱歉，我无法查看这张图片。", "作为一个人工智能，我看不到视频。",
    ],
    "leaked_template": [
        "<|im_start|>assistant\nA mill.", "A mill turns.</s>", "[INST] describe [/INST] A mill", "<image> A mill turns",
        "assistant: A mill turns on a hill.", "<think>the user wants a caption</think> A mill turns.",
        "### Response: A mill", "A {{ subject }} turns on a hill", "用户：请描述这张图片",
    ],
    "repetition": [
        "a mill a mill a mill a mill", "the the the the the end", "A mill turns. " * 3, "aaaaaaaaaaaaaaaa mill",
        "风车风车风车风车风车", "a very very very very big mill", " ".join(["red", "blue", "red", "green"] * 10),
    ],
    "seo_list": [
        "shoes, buy shoes, cheap shoes, nike, adidas, sale, discount", "#mill #wind #dutch #holiday",
        "wallpaper | hd wallpaper | 4k | free download | desktop | nature", "风车, 荷兰, 旅游, 壁纸, 高清, 下载, 免费",
        "stock photo; mill; windmill; holland; tulips; sky",
    ],
    "too_short": ["Sunset", "mill!", "猫"],
}  # fmt: skip
LANGUAGES = {
    "en": [*HONEST[:10], "Sunset", "windmill hill"],
    "zh": [*HONEST[11:], "iPhone 手机发布会现场，观众鼓掌。"],
    "other": [
        "Der Hund läuft im Park und bellt.", "Un chat dort sur le canapé dans la maison.", "Ветряная мельница на холме",
        "猫が座っている", "풍차가 언덕 위에서 돌고 있다", "طاحونة على التل", "Una casa con un jardín y los árboles",
        "Windmühle Übergröße",
    ],
    None: ["", "12 34", "...", None],
}  # fmt: skip


@pytest.mark.parametrize("caption", HONEST)
def test_honest_captions_have_no_problem(caption):
    assert problem(caption) is None


def test_the_sample_dumps_captions_have_no_problem():
    captions = [entry.caption for entry in contents.entries() if entry.caption]
    assert len(captions) > 30
    assert [caption for caption in captions if problem(caption) or language(caption) != "en"] == []


@pytest.mark.parametrize(
    ("name", "caption"), [(name, caption) for name, captions in JUNK.items() for caption in captions]
)
def test_junk_is_named(name, caption):
    assert problem(caption) == name


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in LANGUAGES.items() for text in texts])
def test_languages(name, text):
    assert language(text) == name


@pytest.mark.parametrize("name", ["en", "zh"])
def test_repeating_the_prompt_is_a_leak(name):
    prompts = load_prompts()[name]
    words = prompts.prompt("video")
    assert problem(f"Sure. {words}", [words]) == "leaked_template"
    assert problem(HONEST[0], [words]) is None


@given(st.text(max_size=400))
@settings(deadline=None)
def test_any_text_is_judged_and_the_verdict_is_stable(text):
    assert problem(text) in {None, *JUNK}
    assert language(text) in {None, "en", "zh", "other"}
    assert problem(f"  {text.strip()} ") == problem(text)


@given(st.sampled_from(HONEST), st.integers(4, 30))
def test_any_caption_in_a_row_is_a_repetition(caption, times):
    assert problem(f"{caption.rstrip('.。')}. " * times) == "repetition"


@pytest.mark.parametrize(
    "nasty", ["_" * 20_000, "a " * 20_000, "{{" * 10_000, "<|" * 10_000, ", " * 10_000, "I'm " * 5_000]
)
def test_hostile_text_takes_no_time(nasty):
    began = time.process_time()
    problem(nasty), language(nasty)
    assert time.process_time() - began < 2


def test_whole_sentences():
    assert whole_sentences("A mill turns. The wind is str") == "A mill turns."
    assert whole_sentences("风车在转。风很") == "风车在转。"
    assert whole_sentences("A mill turns at 3.5 turns a") == "A mill turns at 3.5 turns a"
    assert whole_sentences("A mill turns.") == "A mill turns."
    assert n_words("two words 四个汉字") == 4


@pytest.mark.parametrize(("length", "parts"), [(0.5, 1), (20, 1), (20.1, 2), (45, 3)])
def test_clips_up_to_20_s_stay_whole_and_longer_ones_become_equal_parts(length, parts):
    row = {"sample_id": "s", "kind": "video", "start_s": 4.0, "end_s": 4 + length, "width": 64, "height": 64, "fps": 24}
    found = clips(row, CaptionFrames())
    assert [clip["key"] for clip in found] == [f"s/{n}" for n in range(parts)]
    part_s, step_s = length / parts, 1 / found[0]["fps"]
    assert [clip["start_s"] for clip in found] == pytest.approx([4 + n * part_s + step_s / 2 for n in range(parts)])


def test_twelve_frames_lie_evenly_within_the_clip():
    row = {"sample_id": "s", "kind": "video", "start_s": 4.0, "end_s": 10.0, "width": 1280, "height": 720, "fps": 24.0}
    (clip,) = clips(row, CaptionFrames())
    times = [clip["start_s"] + k / clip["fps"] for k in range(clip["frames"])]
    assert times == pytest.approx([4.25 + 0.5 * k for k in range(12)])
    assert (clip["width"], clip["height"]) == (683, 384)
    (short,) = clips({**row, "end_s": 4.25}, CaptionFrames())
    assert short["frames"] == 6


def test_the_prompts_language_is_drawn_by_sample():
    drawn = [prompt_language(f"{n:032x}", ["en", "zh"]) for n in range(1000)]
    assert drawn == [prompt_language(f"{n:032x}", ["en", "zh"]) for n in range(1000)]
    assert 400 < drawn.count("zh") < 600
    assert set(load_prompts()) == {"en", "zh"}
