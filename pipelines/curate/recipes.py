"""Curation recipes: a recipe is a function that returns a config; TOML says the same."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from reelmill.config import at_least, differences, from_dict, nearest, override, read_toml, to_dict
from reelmill.curation import quotas, rules
from reelmill.curation.annotations import config as annotation_config
from reelmill.curation.captions import config as caption_config
from reelmill.curation.duplicates.config import CANDIDATES, SEMANTIC_CANDIDATES, DuplicatesConfig
from reelmill.curation.fetching import config as fetching
from reelmill.curation.interfaces import Kind
from reelmill.curation.judging import config as judging_config
from reelmill.curation.ledger import judged_schema
from reelmill.curation.narration import CARRY
from reelmill.curation.quotas import Quota
from reelmill.curation.rules import Rule
from reelmill.curation.scenes import ScenesConfig
from reelmill.curation.scoring import EXPANDERS, NARRATED, ScoreConfig, make_scorers, score_columns
from reelmill.curation.speech import contract as speech
from reelmill.curation.speech.config import SoundConfig, TranscriptConfig
from reelmill.errors import ConfigError
from reelmill.orchestration.plan import PlanConfig
from reelmill.orchestration.recipe import Recipe
from reelmill.orchestration.tokens_config import TokensConfig
from reelmill.pipelines.curate.text_rules import text_config, text_rules, text_scorers


def video() -> Recipe:
    """Emu3's video and image curation (paper section 2.1); bounds that it does not disclose are ours and say so."""
    failed = {"skip_if": "failed"}
    scorers: dict[str, dict[str, Any]] = {
        "colourfulness": {},
        "tones": {},
        "quality": {},
        "artifacts": {},
        "phash": {},
        "motion_dis": {},
        "motion_jitter": {},
        "text": dict(failed),
        "aesthetic": dict(failed),
        "motion_raft": dict(failed),
    }
    return Recipe(
        name="video",
        score=ScoreConfig(scorers=scorers),
        rules=_rules(TokensConfig().fps),
        duplicates=DuplicatesConfig(near=True),
    )


def image() -> Recipe:
    """Emu3's image curation (paper section 2.1): at least 512 x 512, aesthetics of at least 5.5, and a second chance
    for what fails taste alone: little text, and not monochrome.

    What is made to be read - documents, tables, charts, screens - Emu3 collects for understanding: selection
    `text_rich` keeps it and nothing else, with rules of its own; the run's own verdicts leave it out.

    Without CLIP's weights there is no taste, and every picture takes the second road. How much text is little and what
    is monochrome is not disclosed: the bounds are ours.
    """
    low_text, colourful = "text_area <= 0.03", "colourfulness >= 5"
    scorers: dict[str, dict[str, Any]] = {
        "colourfulness": {},
        "tones": {},
        "quality": {},
        "artifacts": {},
        "phash": {},
        "aesthetic": {},
        "text": {"skip_if": "width * height < 262144"},
        "layout": {},
    }
    damage = {"damage": _damage()["damage"]}
    image_only: list[Kind] = ["image"]
    rules = damage | {
        "image_resolution": Rule("width * height", min=262_144.0, stage="decode", kinds=image_only),
        "text_rich": Rule(_IS_TEXT_RICH, max=0.0, stage="text", kinds=image_only, null="keep"),
        **_artifacts(),
        "image_aesthetic": Rule(
            "coalesce(aesthetic_score, 0)",
            min=5.5,
            stage="looks",
            kinds=image_only,
            unless=f"{low_text} AND {colourful}",
        ),
    }
    score = ScoreConfig(scorers=scorers, expanders={"image": EXPANDERS["image"]})
    near = DuplicatesConfig(near=True)
    return Recipe(name="image", score=score, rules=rules, duplicates=near, selections={"text_rich": list(TEXT_RICH)})


_IS_TEXT_RICH = "(picture_class = 'text_rich')::INTEGER"
TEXT_RICH = (
    f'rules.text_rich={{expr = "{_IS_TEXT_RICH}", min = 1.0, stage = "text", kinds = ["image"]}}',
    "rules.image_aesthetic.min=0.0",
    "rules.noise.max=255.0",
    "rules.blockiness.max=1000.0",
)
"""What is to be read need not be beautiful; its letters and lines pass for noise and for borders of blocks."""


def sample() -> Recipe:
    """For the sample dump on two cores: short clips, small frames, a vocabulary of bytes and 4,096 codes, less motion.

    Its own bounds, because Emu3's would reject all of its real footage: clips from 2 s (Emu3: 5 s), scenes of at most
    10 s (20 s), sides from 128 pixels (ours: 240), motion from 0.01 (0.04), measured on two pairs of frames per clip.
    """
    recipe = video()
    recipe.name = "sample"
    recipe.duplicates = DuplicatesConfig()  # the dump shows some of its rendered scenes twice
    for scorer in ("phash", "artifacts"):
        del recipe.score.scorers[scorer]
    recipe.plan = PlanConfig(unit_items=4, unit_mb=64)
    recipe.score.scorers["motion_raft"]["spaced"] = 2
    recipe.score.scenes = ScenesConfig(max_s=10.0)
    recipe.rules = {name: rule for name, rule in _rules(tokens_fps=8.0).items() if name not in _artifacts()}
    recipe.rules["duration"].min = 2.0
    recipe.rules["resolution"].min = 128.0
    recipe.rules["motion"].min = 0.01
    recipe.tokens = TokensConfig("reelmill-tok-xs", text="bytes", area=128 * 128, fps=8.0, max_latent_frames=10)
    return recipe


def emu3_5() -> Recipe:
    """Emu3.5's interleaved videos (paper section 3.1.1): key frames and spoken words in order of time.

    Its basic filter, whose bounds are not disclosed: length and resolution, one large face that stays, pictures that
    hardly change, and quotas that balance silent videos and languages. Its two stages are selections of one ledger. A
    picture has 1,024 codes at 512 x 512, as in Emu3.5's first stage: its vision tokenizer too has 16 x 16 pixels a code
    and no time axis.
    """
    video_only: list[Kind] = ["video"]
    score = ScoreConfig(scorers={"colourfulness": {}, "quality": {}, "phash": {}, "faces": {}})
    score.decode.sample_fps = 4.0  # ours: the key frame is the sharpest of those around it
    score.expanders |= {"video": NARRATED, "audio": "reelmill.curation.expanders.audio:expand"}
    rules = {
        "duration": Rule("end_s - start_s", min=10.0, stage="length", kinds=video_only),  # ours
        "resolution": Rule("least(width, height)", min=240.0, stage="length", kinds=video_only),  # ours
        "pictures": Rule(
            "len([k FOR k IN keyframes IF k.problem IS NULL])", min=2.0, stage="pictures", kinds=video_only
        ),
        "talking_head": Rule("face_steady", max=0.6, stage="pictures", kinds=video_only, null="keep"),  # ours
        "talking_head_seen": Rule("talking_head", max=0.5, stage="judges", kinds=video_only, null="keep"),
        "steady": Rule(  # ours: one speaker before one camera, a slide that stays
            "len([k FOR k IN keyframes IF k.difference < 12]) / greatest(len(keyframes) - 1, 1)",
            max=0.8,
            stage="pictures",
            kinds=video_only,
        ),
        "quality": Rule("quality_score", min=0.3, stage="pictures", kinds=video_only),  # ours
        "heard": Rule("words_per_s", min=0.0, stage="speech", kinds=video_only),  # it waits for its transcript
        "words": Rule("words_per_s", min=0.3, stage="speech", kinds=["audio"]),  # ours
    }
    balance = {  # ours
        "silent": Quota("CASE WHEN words_per_s < 0.3 THEN 'silent' END", share=0.1, kinds=video_only),
        "language": Quota("language", share=0.8, kinds=["video", "audio"]),
    }
    transcripts = TranscriptConfig(sources=["subtitles", "whisper"])
    tokens = TokensConfig("reelmill-tok16-s", documents="narrated", layout="emu3.5")
    sound = SoundConfig(measure=True)
    return Recipe(
        name="emu3_5",
        score=score,
        sound=sound,
        transcripts=transcripts,
        rules=rules,
        quotas=balance,
        selections={"stage1": [], "stage2": list(STAGE2)},
        tokens=tokens,
    )


STAGE2 = (
    'rules.quality={expr = "quality_score", min = 0.5, stage = "pictures", kinds = ["video"]}',
    "rules.steady.max=0.5",
    'rules.repeated_pictures={expr = "keyframes_repeated", max = 0.3, stage = "pictures", null = "keep"}',
    'rules.shared_pictures={expr = "keyframes_elsewhere", max = 0.3, stage = "pictures", null = "keep"}',
    'rules.pace={expr = "words_per_s", min = 0.8, max = 5.0, stage = "speech", kinds = ["video", "audio"]}',
    'rules.repeated={expr = "words_repeated", max = 0.3, stage = "speech", null = "keep"}',
    'rules.entropy={expr = "words_entropy", min = 0.7, stage = "speech", null = "keep"}',
    'rules.unsure={expr = "speech_perplexity", max = 2.0, stage = "speech", null = "keep"}',
    'rules.frames={expr = "frames_score", min = 3.0, stage = "judges", kinds = ["video"], null = "keep"}',
    'rules.speech={expr = "speech_score", min = 3.0, stage = "judges", kinds = ["video", "audio"], null = "keep"}',
    'rules.agreement={expr = "speech_agreement", min = 0.18, stage = "judges", kinds = ["video"], null = "keep"}',
    "duplicates.near=true",
    "tokens.narration.distinct=true",
)
"""Emu3.5's advanced filter of its second stage (section 3.1.1), over a run of recipe `emu3_5`.

Disclosed: filters of frame quality, of near-equal key frames and of the transcript, without their bounds; models that
need a hub (DeQA, DINO, FG-CLIP, an LLM). Here the columns that every run has, with bounds of ours: sharper frames, key
frames that differ from the one before, from earlier ones and from other videos', speech at the pace of telling
something, not the same again, of which the recogniser is sure; and what judges say, where `judging.ask` names them.
"""


def text() -> Recipe:
    """For dumps of texts: cleaned, personal data masked, judged by the filters of Gopher, C4 and FineWeb.

    Other files are not read. Aquila's corpus, which Emu3 takes its texts from, is Chinese and English (paper section
    2.1); here every language is kept that is found, and `text_language` says which.
    """
    score = ScoreConfig(scorers=text_scorers(), expanders={"text": EXPANDERS["text"]})
    score.decode.text = text_config()
    plan = PlanConfig(unit_items=1000)
    score.scorers["minhash"] = {}
    near = DuplicatesConfig(near=True)
    return Recipe(name="text", plan=plan, score=score, rules=text_rules(), duplicates=near, tokens=TokensConfig())


def chinese() -> Recipe:
    """Recipe `text`, for what is Chinese of a dump: a share of the training recipe `emu3_bilingual`."""
    return _in_language("chinese", "zh", "zh-Hant")


def english() -> Recipe:
    """Recipe `text`, for what is English of a dump: a share of the training recipe `emu3_bilingual`."""
    return _in_language("english", "en")


def _in_language(name: str, *codes: str) -> Recipe:
    recipe = text()
    recipe.name = name
    listed = ", ".join(repr(code) for code in codes)
    rule = Rule(f"(text_language IN ({listed}))::INTEGER", min=1.0, stage="language", kinds=["text"])
    recipe.rules = {"languages": rule, **recipe.rules}
    return recipe


def web() -> Recipe:
    """For crawls: pages with their pictures in reading order, and pictures with captions (Emu3.5's interleaved data).

    Pages are judged as in recipe `text`, their pictures by what is cheap; which of them are decorations
    `tokens.interleaved` says. OBELICS drops pages with more than 30 pictures (Laurençon et al. 2023, appendix A).
    """
    recipe = text()
    recipe.name = "web"
    recipe.plan = PlanConfig()
    recipe.score.expanders |= {"image": EXPANDERS["image"]}
    recipe.score.scorers |= {"colourfulness": {}, "tones": {}, "quality": {}, "phash": {}}
    recipe.rules |= {
        "page_images": Rule("n_images", max=30.0, stage="pages", kinds=["text"], null="keep"),
        "damage": _damage()["damage"],
        "quality": Rule("quality_score", min=0.3, stage="looks", kinds=["image"]),  # ours
    }
    recipe.tokens = TokensConfig(documents="interleaved", layout="emu3.5", area=256 * 256)
    return recipe


DEFAULT = "default"
"""The selection that a run's own rules make."""

RECIPES: dict[str, Callable[[], Recipe]] = {
    "video": video,
    "image": image,
    "sample": sample,
    "emu3_5": emu3_5,
    "text": text,
    "chinese": chinese,
    "english": english,
    "web": web,
}


def load(name_or_file: str, assignments: Iterable[str] = ()) -> Recipe:
    """A recipe by name or TOML file, with `--set` assignments applied, checked as far as it can be without data.

    A TOML file may name as `base` one of the recipes, which it changes. Raises ConfigError.
    """
    if name_or_file in RECIPES:
        recipe = RECIPES[name_or_file]()
    elif name_or_file.endswith(".toml"):
        recipe = _from_file(Path(name_or_file))
    else:
        raise ConfigError(f"unknown recipe {name_or_file!r}; {nearest(name_or_file, RECIPES)}, or a .toml file")
    recipe = changed(recipe, assignments)
    check(recipe)
    return recipe


def changed(recipe: Recipe, assignments: Iterable[str]) -> Recipe:
    """The recipe with `--set` assignments; the rule on frames follows `tokens.fps`. Raises ConfigError."""
    return _following(recipe, override(recipe, assignments))


def _following(before: Recipe, after: Recipe) -> Recipe:
    """`after`, which was made of `before`, with rules that count frames as its own tokens do, not as those before."""
    counted, counts = _frames_at(before.tokens.fps), _frames_at(after.tokens.fps)
    rules = {name: replace(rule, expr=counts) if rule.expr == counted else rule for name, rule in after.rules.items()}
    return replace(after, rules=rules)


def check(recipe: Recipe) -> None:
    """Raise ConfigError for scorers, captions or rules that do not exist or do not bind."""
    skips = {name: skip_if for name, skip_if, _ in make_scorers(recipe.score) if skip_if}
    rules.check(recipe.rules, judged_schema(score_columns(recipe.score)), skips)
    quotas.check(recipe.quotas, judged_schema(score_columns(recipe.score)))
    _check_selections(recipe)
    caption_config.check(recipe.captions)
    judging_config.check(recipe.judging)
    _check_annotations(recipe)
    _check_numbers(recipe)
    speech.check(recipe.transcripts)
    if recipe.duplicates.near and not {"phash", "minhash"} & {*score_columns(recipe.score)}:
        raise ConfigError("duplicates.near compares hashes; add [score.scorers.phash] or [score.scorers.minhash]")
    if recipe.duplicates.semantic and "embedding_model" not in score_columns(recipe.score):
        raise ConfigError("duplicates.semantic compares embeddings; add [score.scorers.embedding]")
    if any(name != speech.SUBTITLES for name in recipe.transcripts.sources) and not recipe.sound.measure:
        raise ConfigError("transcripts.sources hear speech, which sound.measure = true finds; set it")


def selected(base: Recipe, assignments: Iterable[str]) -> Recipe:
    """The recipe of a selection: `base` with assignments. ConfigError where they change more than a selection may."""
    recipe = changed(base, assignments)
    outside = [line for line in differences(base, recipe) if not line.startswith(_OF_A_SELECTION)]
    if outside:
        raise ConfigError(
            "a selection changes rules, duplicates, quotas, judging, tokens and annotations only; not "
            + "; ".join(outside)
        )
    check(replace(recipe, selections={}))
    return recipe


_OF_A_SELECTION = ("rules.", "duplicates.", "quotas.", "judging.", "tokens.", "annotations.", "engine.")


def check_name(name: str) -> None:
    """Raise ConfigError for a name that no selection may have."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) or name in (DEFAULT, "schema"):
        raise ConfigError(
            f"a selection is named in letters, digits, - and _, not {name!r} ({DEFAULT} is the run's own)"
        )


def _check_selections(recipe: Recipe) -> None:
    for name, assignments in recipe.selections.items():
        check_name(name)
        try:
            selected(recipe, assignments)
        except ConfigError as error:
            raise ConfigError(f"selections.{name}: {error}") from None


def _check_annotations(recipe: Recipe) -> None:
    for name in recipe.tokens.narration.carry:
        if name not in CARRY:
            raise ConfigError(f"tokens.narration.carry: unknown {name!r}; {nearest(name, CARRY)}")
    if recipe.tokens.narration.carry:
        annotation_config.check(recipe.annotations)


def _check_numbers(recipe: Recipe) -> None:
    decode, bytes_ = recipe.score.decode, ("max_bytes", "max_image_bytes", "max_text_bytes", "max_pixels")
    at_least("plan", recipe.plan, unit_items=1, unit_mb=1)
    fetching.check(recipe.fetch)
    at_least("score.decode", decode, **dict.fromkeys(bytes_, 1.0), max_picture_mb=1, max_frame_mb=1)
    at_least("score.decode", decode, max_duration_s=0.001, sample_fps=0.001, short_side=16, long_side=16)
    at_least("score.decode.text", decode.text, max_chars=0)
    at_least("duplicates", recipe.duplicates, min_similarity=CANDIDATES, min_text_similarity=CANDIDATES)
    at_least("duplicates", recipe.duplicates, min_semantic_similarity=SEMANTIC_CANDIDATES)
    at_least("score.scenes", recipe.score.scenes, max_s=0.1, max_open_s=0.1)
    at_least("tokens", recipe.tokens, area=1, fps=0.001, max_latent_frames=1, caption_after=0)


def graph(recipe: Recipe) -> str:
    """The operator graph as TOML comments: what runs in which process, in which order."""
    scorers = " -> ".join(recipe.score.scorers) or "(none)"
    tokens = (
        f"{recipe.tokens.tokenizer}, {recipe.tokens.text} text, area {recipe.tokens.area}, {recipe.tokens.fps:g} fps"
    )
    lines = [
        "dump -> plan.parquet",
        "fetch     rows of URL tables, in this process -> fetched/",
        "score     one operator on CPUs, a unit at a time: child process (decode, scenes) -> " + scorers,
        "          -> samples/, then items/ (the commit mark)",
        "decide    exact duplicates -> "
        + " -> ".join(recipe.rules)
        + " -> near duplicates" * recipe.duplicates.near
        + " -> semantic duplicates" * recipe.duplicates.semantic
        + "".join(f" -> {name}" for name in recipe.quotas),
        "caption   " + ", ".join(recipe.captions.sources) + "; chosen: " + ", else ".join(recipe.captions.prefer),
        *([f"judge     {', '.join(recipe.judging.ask)}"] if recipe.judging.ask else []),
        *([f"annotate  {', '.join(recipe.tokens.narration.carry)}"] if recipe.tokens.narration.carry else []),
        "tokenize  one operator: child process (kept spans only) -> " + tokens,
        f"engine    {recipe.engine.executor}, workers {recipe.engine.workers or 'one per CPU'}",
    ]
    return "\n".join(f"# {line}" for line in lines)


def _from_file(path: Path) -> Recipe:
    data = read_toml(path)
    base = data.pop("base", None)
    if base is None:
        return from_dict(Recipe, data)
    if str(base) not in RECIPES:
        raise ConfigError(f"{path}: base is {base!r}; {nearest(str(base), RECIPES)}")
    made = RECIPES[base]()
    return _following(made, from_dict(Recipe, _merged(to_dict(made), data)))


def _merged(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `change`, table by table; new entries come last."""
    merged = dict(base)
    for key, value in change.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _frames_at(tokens_fps: float) -> str:
    """SQL: the frames of a clip, counted as the tokenize stage counts them."""
    return f"floor((end_s - start_s) * round(least(fps, {tokens_fps:g}), 3) + 1e-6)"


def _rules(tokens_fps: float) -> dict[str, Rule]:
    video_only: list[Kind] = ["video"]
    image_only: list[Kind] = ["image"]
    return {
        **_damage(),
        "duration": Rule("end_s - start_s", min=5.0, stage="scenes", kinds=video_only),  # Emu3, figure 9
        "frames": Rule(_frames_at(tokens_fps), min=4.0, stage="scenes", kinds=video_only),  # of one latent frame
        "resolution": Rule("least(width, height)", min=240.0, stage="decode", kinds=video_only),  # ours
        "image_resolution": Rule("width * height", min=262_144.0, stage="decode", kinds=image_only),  # Emu3: 512 x 512
        "colour": Rule("colourfulness", min=5.0, stage="looks"),  # ours
        "quality": Rule("quality_score", min=0.3, stage="looks"),  # ours
        **_artifacts(),
        "text": Rule("text_area", max=0.03, stage="text"),  # ours; Emu3's is not disclosed
        "jitter": Rule("motion_jitter", max=0.3, stage="motion", kinds=video_only, null="keep"),  # ours
        "motion": Rule("motion_score", min=0.04, max=0.5, stage="motion", kinds=video_only),  # Emu3, figure 10; ours
        # Ours. A clip that is still throughout is for `motion` to judge; samples of earlier versions pass.
        "frozen": Rule(
            "CASE WHEN frozen_share < 1 THEN frozen_share * (end_s - start_s) END",
            max=1.0,
            stage="motion",
            kinds=video_only,
            null="keep",
        ),
        "aesthetic": Rule("aesthetic_score", min=5.0, stage="looks", kinds=video_only, null="keep"),  # Emu3
        "image_aesthetic": Rule("aesthetic_score", min=5.5, stage="looks", kinds=image_only, null="keep"),  # Emu3
    }


def _artifacts() -> dict[str, Rule]:
    """Ours: what photographs reach when they are spoilt so that it shows (tests/curation/test_scorers_artifacts.py).

    A picture of more than 1,024 x 1,024 may be soft at its own pixels: it is scaled down before a model sees it.
    """
    own_pixels = "CASE WHEN width * height <= 1048576 THEN blur END"
    return {
        "blur": Rule(own_pixels, max=0.7, stage="artifacts", null="keep"),
        "noise": Rule("noise", max=12.0, stage="artifacts", null="keep"),
        "blockiness": Rule("blockiness", max=0.8, stage="artifacts", null="keep"),
        "combing": Rule("combing", max=0.1, stage="artifacts", kinds=["video"], null="keep"),
    }


def _damage() -> dict[str, Rule]:
    """Ours (docs/reliability.md has what they catch). Samples of earlier versions pass: nobody looked at them."""
    steady = "CASE WHEN steadiness >= 0.9 THEN missing_frames / (missing_frames + (end_s - start_s) * fps) END"
    return {
        "damage": Rule("damaged_frames", max=0.0, stage="decode", null="keep"),
        "gaps": Rule(steady, max=0.01, stage="decode", kinds=["video"], null="keep"),
        "impossible_colours": Rule("impossible_colours", max=0.002, stage="decode", kinds=["video"], null="keep"),
    }
