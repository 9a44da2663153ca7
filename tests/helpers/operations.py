"""What people do that takes several commits, on the smallest material that shows it: to be killed anywhere."""

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from candidates import rating, write_folder
from dumps import everything, jpeg, light_recipe
from PIL import Image
from rich.console import Console
from videos import scene_frames, textured, write_video

from reelmill.curation.pictures import PixelBounds
from reelmill.eval.preference import Candidates, VoteFile, read_vote
from reelmill.orchestration.runfolder import RunFolder
from reelmill.pipelines.curate import recipes
from reelmill.pipelines.curate.captions import run_captions
from reelmill.pipelines.curate.run import CurateOptions, curate
from reelmill.pipelines.imports.chat import ChatImport, import_chats
from reelmill.pipelines.imports.tokens import import_tokens
from reelmill.pipelines.ledger.forget import Criterion, forget
from reelmill.pipelines.ledger.select import SelectOptions, select
from reelmill.pipelines.ledger.verify import verify, verify_preferences
from reelmill.pipelines.prefer.candidates import decode_pictures
from reelmill.pipelines.prefer.results import build_pairs
from reelmill.tokenize import vision
from reelmill.tokenize.vocabulary import Vocabulary

# The second scene of the video is too short, so that the expensive scorer (here: quality) skips it.
EXPENSIVE = (
    "rules.duration.min=2.3",
    "rules.image_resolution.min=0",
    "score.scorers.quality.skip_if=failed",
    "rules.quality.expr=quality_score",
    "rules.quality.min=0.0",
    "captions.sources=['sidecar']",
)
CUT_OTHERWISE = ("score.scenes.max_s=0.9", "tokens.fps=3.0")
CHAT = [{"role": "user", "content": "What colour?"}, {"role": "assistant", "content": "Red"}]


def quiet():
    return Console(file=io.StringIO())


def write_material(place):
    """`dump` (a video of two scenes, pictures, a text), `other.jpg`, which will replace a picture of its size, a
    recipe, and what the imports read."""
    dump = place / "dump"
    dump.mkdir(parents=True)
    write_video(dump / "v.mp4", scene_frames([(1, 60), (101, 51)]), options={"crf": "24", "g": "24"})
    (dump / "v.json").write_text(json.dumps({"alt": "a texture drifts", "licence": "CC0-1.0"}))
    for n in range(3):
        Image.fromarray(textured(n, 200, 240)).save(dump / f"i{n}.jpg", quality=90)
    (dump / "i0.json").write_text(json.dumps({"alt": "a texture", "licence": "CC0-1.0"}))
    (dump / "t.txt").write_text("The mill grinds slowly. " * 20)
    pictures = [jpeg(seed) for seed in (1, 2)]
    size = max(map(len, pictures)) + 64
    (dump / "swapped.jpg").write_bytes(pictures[0].ljust(size, b"\0"))
    (place / "other.jpg").write_bytes(pictures[1].ljust(size, b"\0"))
    light_recipe(place / "light.toml")
    (place / "pictures").mkdir()
    Image.new("RGB", (64, 48), "red").save(place / "pictures" / "red.png")
    chats = [{"messages": CHAT}, {"images": ["red.png"], "messages": [{"role": "user", "content": "<image>"}, CHAT[1]]}]
    (place / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chats * 2))
    codes = [{"text": f"picture {n}", "codes": [[n, 1, 2], [3, 4, 5]]} for n in range(4)]
    (place / "codes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in codes))
    return place


def run(place, out, *assignments, dump="dump", **options):
    wanted = ["engine.executor=inline", "plan.unit_items=2", *assignments]
    recipe = recipes.load(str(place / "light.toml"), wanted)
    curate([place / dump], out, recipe, CurateOptions(**options), quiet())


def plain(place, out, dump="dump"):
    run(place, out, *EXPENSIVE, dump=dump)


def before_a_change(place, out):
    shutil.copytree(place / "dump", place / "changing", dirs_exist_ok=True)
    plain(place, out, "changing")


def after_a_change(place, out):
    """Other tokens, so that everything is tokenized again, and an item is found to be another one."""
    shutil.copyfile(place / "other.jpg", place / "changing" / "swapped.jpg")
    run(place, out, *EXPENSIVE, "tokens.fps=3.0", dump="changing", update=True)


def import_chat_rows(place, out):
    tokenizer = vision.load("reelmill-tok-xs")
    vocab = Vocabulary("bytes", tokenizer.codes)
    how = ChatImport(place / "pictures", tokenizer, "reelmill-tok-xs", vocab, PixelBounds(32 * 32, 48 * 48))
    if not out.exists():  # what a second import says is another matter
        import_chats(place / "chats.jsonl", out, how, lambda _: None)


def import_codes(place, out):
    if not out.exists():
        import_tokens(place / "codes.jsonl", out, Vocabulary("bytes", 64), "ab" * 32, "theirs", lambda _: None)


def vote_and_sample(place, out):
    candidates = write_folder(out)
    for prompt in candidates.by_prompt.values():
        scores = {one.id: (number + 1, 3) for number, one in enumerate(prompt)}
        VoteFile(out).add([read_vote(rating("ann", scores), candidates)])


def pair_up(place, out):
    decode_pictures(Candidates(out))
    build_pairs(out, "default", [], 1, 0.0, quiet())


def tables(out):
    return everything(out)


def preferences(out):
    files = {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.glob("p*/[!.]*")) if path.is_file()}
    return files, pq.read_table(out / "pairs" / "default").to_pylist(), (out / "votes.jsonl").read_bytes()


@dataclass(frozen=True)
class Operation:
    """`act(place, out)` on a folder that `prepare` makes; a rerun of `act` after a kill must lead to the same `state`.

    `prepare`: None where the folder is to be made by `act` itself.
    """

    act: Callable[[Path, Path], object]
    prepare: Callable[[Path, Path], object] | None = None
    state: Callable[[Path], object] = tables
    verify: Callable[[Path], list[str]] = lambda out: verify(RunFolder(out)).problems


OPERATIONS = {
    "curate": Operation(plain),
    "curate --update": Operation(lambda place, out: run(place, out, *EXPENSIVE, *CUT_OTHERWISE, update=True), plain),
    "a changed dump": Operation(after_a_change, before_a_change),
    "forget": Operation(lambda place, out: forget(RunFolder(out), Criterion(uri="v.*"), quiet()), plain),
    "select --complete": Operation(
        lambda place, out: select(
            out, "mine", SelectOptions(["rules.duration.min=2.0"], "", 0.7, ["quality_score"], True), quiet()
        ),
        plain,
    ),
    "caption run": Operation(
        lambda place, out: run_captions(out, "default", "facts", ["engine.executor=inline"], True, quiet()), plain
    ),
    "chat import": Operation(import_chat_rows),
    "tokens import": Operation(import_codes),
    "prefer build": Operation(pair_up, vote_and_sample, preferences, lambda out: verify_preferences(out).problems),
}


def prepared(name, place):
    """The folder on which the operation acts, in `place`, whole; it may not be there."""
    operation = OPERATIONS[name]
    out = place / getattr(operation.prepare, "__name__", name).replace(" ", "-") / "out"
    if operation.prepare and not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        operation.prepare(place, out)
    return out
