"""`reelmill prefer`: from prompts to candidates, votes of people, files and scorers, pairs and win rates."""

import json
import re

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from candidates import VOCAB, rating, write_folder
from chat_server import ChatServer, completion, pictures, words
from rich.console import Console
from tiny_clip import tiny_clip
from toy_run import reelmill, toy_run

from reelmill import weights
from reelmill.curation.scorers.image_quality import quality
from reelmill.errors import ConfigError, DataError, MachineError, WeightsError
from reelmill.eval.preference import Candidates, VoteFile
from reelmill.pipelines.prefer import automatic_votes
from reelmill.pipelines.prefer.automatic_votes import ClipSimilarity, import_votes, parse_judgement, scorer_votes
from reelmill.pipelines.prefer.candidates import all_prompts, decode_pictures
from reelmill.pipelines.prefer.results import build_pairs
from reelmill.tokenize import documents, vision
from reelmill.tokenize.shards.pairs import PairIndex, verify_pairs


@pytest.fixture(scope="module")
def training_run(tmp_path_factory):
    """Checkpoints after its first and second step."""
    return toy_run(tmp_path_factory.mktemp("run"), steps=2) / "checkpoints"


def test_from_prompts_to_pairs_and_win_rates(training_run, tmp_path):
    out, prompts, votes = tmp_path / "p", tmp_path / "prompts.txt", tmp_path / "votes.jsonl"
    prompts.write_text("a cat\n\n two dogs \na cat\n", encoding="utf-8")
    asked = ("--out", out, "--prompts", prompts, "--count", 3, "--area", 16 * 24, "--ratio", "3:2", "--seed", 4)
    first, second = sorted(training_run.glob("step-*"))
    assert "6 candidates for 2 prompts from 1 checkpoint(s)" in reelmill("prefer", "sample", first, *asked)
    assert "all candidates are there already" in reelmill("prefer", "sample", first, *asked)
    said = reelmill("prefer", "sample", first, second, *asked, "--prompt", "rain").replace("\n", "")
    assert "18 candidates for 3 prompts from 2 checkpoint(s)" in said
    assert len(list((out / "pictures").glob("*.png"))) == 18
    columns = "prompt, count(*), count(DISTINCT weights), min(step), max(step), any_value(top_k), any_value(seed)"
    query = f"SELECT {columns} FROM '{out}/candidates/*.parquet' GROUP BY prompt, place ORDER BY place"
    assert duckdb.sql(query).fetchall() == [(name, 6, 2, 1, 2, 2048, 4) for name in ("a cat", "two dogs", "rain")]

    candidates = Candidates(out)
    rows = []
    for voter, sign in (("ann", 1), ("bob", 1), ("cid", -1)):
        for of in candidates.by_prompt.values():
            # ann and bob like later numbers and the second checkpoint (it follows the first), cid the reverse.
            rows.append(rating(voter, {one.id: (3 + sign * (n - 2) // 2, 3) for n, one in enumerate(of[:5])}))
            rows[-1]["scores"].append({"candidate_id": of[5].id, "appeal": 3 + sign, "alignment": 4})
    votes.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert "9 of 9 votes added" in reelmill("prefer", "vote", out, "--from", votes)
    assert "0 of 9 votes added" in reelmill("prefer", "vote", out, "--from", votes)

    said = reelmill("prefer", "build", out, "--name", "v1", "--least-voters", 3)
    assert re.search(r"appeal +│ +18 +│ +18 +│ +-?0\.\d+", said), said
    index, written = PairIndex(out / "pairs" / "v1"), pq.read_table(out / "pairs" / "v1").to_pylist()
    assert len(index) == 3 and [row["voters"] for row in written] == [3, 3, 3]
    assert verify_pairs(index.paths[0], VOCAB) == []
    found = json.loads((out / "pairs" / "v1.json").read_text(encoding="utf-8"))
    assert found["pairs"] == 3 and found["voters"] == ["ann", "bob", "cid"] and found["kind"] == "rating"
    assert [row["question"] for row in found["agreement"]] == ["appeal", "alignment"]
    drawn = dict(zip(candidates.by_id, candidates.read(list(candidates.by_id.values())), strict=True))
    for number in range(3):
        pair, name = index.read(number), written[number]["chosen_id"]
        assert pair.chosen.tobytes() == drawn[name][0].tobytes() and pair.n_prompt == drawn[name][1]

    said = reelmill("prefer", "compare", out, "--voter", "ann", "--voter", "bob")
    assert "A:" in said and "B:" in said and "A over B" in said and "2 voter(s)" in said
    # 3 prompts, 3 numbers, 2 voters: the second checkpoint is better in all.
    assert re.search(r"A over B │ appeal +│ +3 │ +0 │ +0 │ +18 │ +0 │", said), said

    assert "24 documents, all sound" in reelmill("verify", out)
    with (out / "votes.jsonl").open("a") as stream:
        stream.write('{"voter": "eve"}\n')
    drawn_first = min((out / "candidates").glob("*.parquet"))
    data = bytearray(drawn_first.read_bytes())
    data[len(data) // 2] ^= 1
    drawn_first.write_bytes(data)
    with pytest.raises(DataError, match="its bytes are not those that were written"):
        reelmill("verify", out)
    data[len(data) // 2] ^= 1
    drawn_first.write_bytes(data)
    with pytest.raises(DataError, match=r"1 problem in .*\n.*votes.jsonl, line 10: a vote is"):
        reelmill("verify", out)


def test_prompts_of_text_and_json_lines(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"prompt": " 水车 ", "n": 1}\n\n{"prompt": "b"}\n', encoding="utf-8")
    (tmp_path / "p.txt").write_bytes("\ufeffone\r\ntwo\r\n".encode())
    assert all_prompts(tmp_path / "p.jsonl", ["b", "c"]) == ["水车", "b", "c"]
    assert all_prompts(tmp_path / "p.txt", []) == ["one", "two"]
    for text, says in (
        ('{"prompt": 3}', "line 2 has no prompt"),
        ("{", "line 2 is no JSON"),
        ("[]", "has no prompt"),
    ):
        (tmp_path / "bad.jsonl").write_text(f'{{"prompt": "a"}}\n{text}\n', encoding="utf-8")
        with pytest.raises(DataError, match=says):
            all_prompts(tmp_path / "bad.jsonl", [])
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe")
    for file in ("bad.txt", "none.txt"):
        with pytest.raises(DataError, match="cannot be read"):
            all_prompts(tmp_path / file, [])
    with pytest.raises(DataError, match="--prompt number 1"):
        all_prompts(None, ["x" * 32_001])
    with pytest.raises(DataError, match="--prompt number 2 is blank"):
        all_prompts(None, ["a", " "])
    with pytest.raises(ConfigError, match="no prompts"):
        all_prompts(None, [])


def test_what_cannot_be_done_is_said(tmp_path):
    with pytest.raises(DataError, match="no candidates in"):
        reelmill("prefer", "vote", tmp_path)
    write_folder(tmp_path, count=1)
    for arguments, says in (
        (("vote", tmp_path, "--ask", "compare"), "needs two"),
        (("vote", tmp_path, "--ask", "guess"), "--ask is 'guess'"),
        (("vote", tmp_path, "--scorer", "taste"), "clip, quality or endpoint"),
        (("vote", tmp_path, "--scorer", "endpoint", "--url", "ftp://x"), "needs --url"),
        (("vote", tmp_path, "--scorer", "clip", "--from", "x"), "both given"),
        (("build", tmp_path), "no votes yet"),
        (("build", tmp_path, "--name", "../x"), "letters, digits"),
        (("compare", tmp_path), "of one checkpoint"),
    ):
        with pytest.raises(ConfigError, match=says):
            reelmill("prefer", *arguments)
    (tmp_path / "v.jsonl").write_text('{"voter": "ann"}\n')
    with pytest.raises(DataError, match=r"v\.jsonl, line 1: a vote is"):
        reelmill("prefer", "vote", tmp_path, "--from", tmp_path / "v.jsonl")
    assert not (tmp_path / "votes.jsonl").exists()


def test_quality_votes_once_and_its_pairs_are_its_order(tmp_path, monkeypatch):
    write_folder(tmp_path)
    said = reelmill("prefer", "vote", tmp_path, "--scorer", "quality")
    assert "quality voted on appeal of 6 candidates" in said
    assert "of 0 candidates" in reelmill("prefer", "vote", tmp_path, "--scorer", "quality")
    candidates = Candidates(tmp_path)
    tokenizer = vision.load("reelmill-tok-xs")
    measured = {}
    for one, (tokens, _) in zip(
        candidates.by_id.values(), candidates.read(list(candidates.by_id.values())), strict=True
    ):
        measured[one.id] = quality(tokenizer.decode_image(documents.parse(VOCAB, tokens).codes[0]))
    votes = VoteFile(tmp_path).read(candidates)
    assert {n: s["appeal"] for vote in votes for n, s in vote.scores.items()} == pytest.approx(measured)
    build_pairs(tmp_path, "q", [], 1, 0.0, Console(quiet=True))
    for row in pq.read_table(tmp_path / "pairs" / "q").to_pylist():
        names = [one.id for one in next(of for of in candidates.by_prompt.values() if of[0].prompt == row["prompt"])]
        assert row["chosen_id"] == max(names, key=measured.get)
        assert row["rejected_id"] == min(names, key=measured.get)


def test_an_endpoint_is_shown_picture_and_prompt_and_asked_again_about_failures_alone(tmp_path):
    candidates = write_folder(tmp_path)
    decode_pictures(candidates)

    def reply(number, request):
        return completion('{"appeal": 4, "alignment": 2}' if number != 1 else "Sure! I would say 4 and 2.")

    with ChatServer(reply) as server:
        with pytest.raises(MachineError, match=r"judged 5 of 6 candidates.*Sure! I would say"):
            list(scorer_votes("endpoint", candidates, server.url, "vlm"))
        assert len(server.requests) == 6
        assert pictures(server.requests[0])[0].size == (24, 16)
        assert (
            sum("drawn for the prompt between the lines.\n----\na cat\n----" in words(r) for r in server.requests) == 3
        )
        assert list(scorer_votes("endpoint", candidates, server.url, "vlm")) == ["endpoint:vlm judged 1 candidates"]
        assert len(server.requests) == 7
    votes = VoteFile(tmp_path).read(candidates)
    assert {vote.voter for vote in votes} == {"endpoint:vlm"} and {vote.kind for vote in votes} == {"rating"}
    assert {name for vote in votes for name in vote.scores} == set(candidates.by_id)


def test_an_endpoint_that_judges_nothing_is_not_asked_on(tmp_path):
    candidates = write_folder(tmp_path)
    decode_pictures(candidates)
    with ChatServer(lambda *_: completion("no")) as server:
        with pytest.raises(MachineError, match="judged 0 of 6"):
            list(scorer_votes("endpoint", candidates, server.url, "vlm"))
        assert len(server.requests) == 3
    assert not (tmp_path / "votes.jsonl").exists()


@pytest.mark.parametrize(
    "text",
    ['{"appeal": 3, "alignment": 4}', '```json\n{"alignment": 4, "appeal": 3}\n```', ' {"appeal":3,"alignment":4}\n'],
)
def test_a_judgement_is_one_json_object(text):
    assert parse_judgement(text) == {"appeal": 3.0, "alignment": 4.0}


@pytest.mark.parametrize(
    "text",
    ["", "4 5", "[3, 4]", '{"appeal": 3}', '{"appeal": 3, "alignment": 4, "note": 1}', '{"appeal": 6, "alignment": 4}',
     '{"appeal": 3.5, "alignment": 4}', '{"appeal": true, "alignment": 4}', '{"appeal": "3", "alignment": 4}',
     'It is {"appeal": 3, "alignment": 4}', '{"appeal": 3, "alignment": 4} {"appeal": 1, "alignment": 1}',
     '{"appeal": NaN, "alignment": 4}'],
)  # fmt: skip
def test_anything_else_is_no_judgement(text):
    with pytest.raises(ValueError):
        parse_judgement(text)


CLIP = {
    "embed_dim": 24,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A tiny CLIP of random weights, as the file that the real one comes in."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("clip")
    model = tiny_clip(folder, "similarity-clip", CLIP)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, folder / "clip.safetensors")
    return folder / "clip.safetensors", state


def peer(state):
    """Transformers' CLIP with the same weights."""
    from transformers import CLIPConfig, CLIPModel

    tower = {"num_attention_heads": 2, "num_hidden_layers": 2, "hidden_act": "quick_gelu", "projection_dim": 24}
    text = {
        **tower,
        "vocab_size": 49408,
        "hidden_size": 32,
        "intermediate_size": 128,
        "max_position_embeddings": 77,
        "eos_token_id": 49407,
        "bos_token_id": 49406,
        "pad_token_id": 0,
    }
    image = {**tower, "hidden_size": 64, "intermediate_size": 256, "image_size": 32, "patch_size": 8}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=image, projection_dim=24)).eval()
    mapped = {
        "text_model.embeddings.token_embedding.weight": state["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": state["positional_embedding"],
        "text_projection.weight": state["text_projection"].T,
        "vision_model.embeddings.class_embedding": state["visual.class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": state["visual.conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": state["visual.positional_embedding"],
        "visual_projection.weight": state["visual.proj"].T,
        "logit_scale": state["logit_scale"],
    }
    norms = {
        "text_model.final_layer_norm": "ln_final",
        "vision_model.pre_layrnorm": "visual.ln_pre",
        "vision_model.post_layernorm": "visual.ln_post",
    }
    parts = {
        "layer_norm1": "ln_1",
        "layer_norm2": "ln_2",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
        "self_attn.out_proj": "attn.out_proj",
    }
    for theirs, ours in (("text_model", "transformer"), ("vision_model", "visual.transformer")):
        for layer in range(2):
            names = {f"{theirs}.encoder.layers.{layer}.{a}": f"{ours}.resblocks.{layer}.{b}" for a, b in parts.items()}
            norms |= names
            for kind in ("weight", "bias"):
                three = state[f"{ours}.resblocks.{layer}.attn.in_proj_{kind}"].chunk(3)
                for name, tensor in zip(("q_proj", "k_proj", "v_proj"), three, strict=True):
                    mapped[f"{theirs}.encoder.layers.{layer}.self_attn.{name}.{kind}"] = tensor
    for theirs, ours in norms.items():
        mapped |= {f"{theirs}.{kind}": state[f"{ours}.{kind}"] for kind in ("weight", "bias")}
    missing, unexpected = model.load_state_dict(mapped, strict=False)
    assert not unexpected and all("position_ids" in name for name in missing), (missing, unexpected)
    return model


def test_clip_s_similarity_is_that_of_transformers_clip(clip):
    import open_clip
    from PIL import Image

    file, state = clip
    image = np.random.default_rng(0).integers(0, 255, (40, 56, 3), dtype=np.uint8)
    small = np.asarray(Image.fromarray(image).resize((44, 32), Image.Resampling.BICUBIC))[:, 6:38]
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    spread = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
    pixels = ((torch.from_numpy(small.copy()).permute(2, 0, 1) / 255 - mean) / spread)[None]
    texts = ["a cat on a red chair", "two dogs", "a very long prompt " * 60]
    with torch.no_grad():
        found = peer(state)(input_ids=open_clip.get_tokenizer("similarity-clip")(texts), pixel_values=pixels)
    expected = (found.image_embeds @ found.text_embeds.T)[0].tolist()
    similarity = ClipSimilarity("similarity-clip", file)
    assert [similarity(image, text) for text in texts] == pytest.approx(expected, abs=1e-5)
    assert len({round(value, 4) for value in expected}) == 3


def test_clip_votes_on_alignment_and_without_weights_says_how_to_get_them(clip, tmp_path, monkeypatch):
    write_folder(tmp_path)
    monkeypatch.setenv("REELMILL_CACHE", str(tmp_path / "cache"))
    with pytest.raises(WeightsError, match="reelmill models pull clip-vit-l14"):
        reelmill("prefer", "vote", tmp_path, "--scorer", "clip")
    monkeypatch.setattr(weights, "path", lambda name: clip[0])
    monkeypatch.setattr(automatic_votes, "ARCHITECTURE", "similarity-clip")
    assert "clip:similarity-clip voted on alignment of 6 candidates" in reelmill(
        "prefer", "vote", tmp_path, "--scorer", "clip"
    )
    (vote, _) = VoteFile(tmp_path).read(Candidates(tmp_path))
    assert vote.kind == "score" and all(-1 <= s["alignment"] <= 1 and len(s) == 1 for s in vote.scores.values())


def test_votes_of_another_machine_are_added(tmp_path):
    here, there = write_folder(tmp_path / "here"), write_folder(tmp_path / "there")
    first, *_ = here.by_id
    for candidates, voter in ((here, "ann"), (there, "bob")):
        (tmp_path / "v.jsonl").write_text(json.dumps(rating(voter, {first: (1, 2)})))
        import_votes(candidates, tmp_path / "v.jsonl")
    assert import_votes(here, tmp_path / "there" / "votes.jsonl").startswith("1 of 1")
    assert import_votes(here, tmp_path / "there" / "votes.jsonl").startswith("0 of 1")
    assert [vote.voter for vote in VoteFile(here.folder).read(here)] == ["ann", "bob"]
