"""An exported checkpoint draws in transformers' own classes and `generate` what the engine draws."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from reelmill.compat import torchvision
from reelmill.eval.generation import SamplingParams, TokenSampling, continuations, image_request
from reelmill.tokenize.documents import Grammar
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.hub import export_model, read_model
from reelmill.train.model import Decoder, ModelConfig

torchvision()  # transformers imports it, which fails beside a CPU build of torch unless this came first

import transformers  # noqa: E402

VOCAB = Vocabulary("bytes", 64)
GRAMMAR = Grammar(VOCAB, one_block=True)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    sizes = {"vocab_size": VOCAB.size, "hidden": 32, "layers": 2, "heads": 4, "kv_heads": 2, "mlp": 48}
    decoder = Decoder(ModelConfig(**sizes)).eval().requires_grad_(False)
    for parameter in decoder.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return decoder


def whole_folder(folder, out):
    """An Emu3 model with its vision tokenizer (random), around the exported decoder."""
    out.mkdir()
    decoder = json.loads((folder / "config.json").read_text())
    config = transformers.Emu3Config(
        text_config={key: value for key, value in decoder.items() if key != "architectures"},
        vq_config={"base_channels": 32, "channel_multiplier": [1, 1], "num_res_blocks": 1, "attn_resolutions": [],
                   "codebook_size": VOCAB.codes, "hidden_size": 32},
        vocabulary_map={"<image>": VOCAB.img},
    )  # fmt: skip
    config.save_pretrained(out)
    weights = transformers.Emu3ForConditionalGeneration(config).state_dict()
    (shard,) = folder.glob("model-*.safetensors")
    for name, tensor in load_file(shard).items():
        weights[name if name == "lm_head.weight" else name.replace("model.", "model.text_model.", 1)] = tensor
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, out / "model.safetensors")
    return out


def drawn_by(theirs, request):
    """With transformers' own guidance and constraint, as Emu3's released script uses them."""
    prompt = torch.tensor([request.prompt.tolist()])

    def allowed(_, tokens):
        state = GRAMMAR.advance_all(GRAMMAR.start(), tokens.tolist())
        return [token for start, stop in GRAMMAR.allowed(state) for token in range(start, stop)]

    how = {}
    if request.unconditional is not None:
        how = {
            "guidance_scale": request.sampling.guidance,
            "negative_prompt_ids": torch.tensor([request.unconditional.tolist()]),
        }
    out = theirs.generate(
        prompt, do_sample=False, max_new_tokens=request.max_new_tokens, prefix_allowed_tokens_fn=allowed,
        eos_token_id=VOCAB.eos, pad_token_id=VOCAB.pad, **how,
    )  # fmt: skip
    return out[0, prompt.shape[1] :].tolist()


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("name", ["Emu3ForCausalLM", "Emu3ForConditionalGeneration", "LlamaForCausalLM"])
def test_greedy_tokens_are_the_same(model, name, guidance, tmp_path):
    layout = "llama" if name.startswith("Llama") else "emu3"
    export_model(model, VOCAB, tmp_path / "a", layout=layout, dtype=torch.float32)
    is_whole = name == "Emu3ForConditionalGeneration"
    folder = whole_folder(tmp_path / "a", tmp_path / "b") if is_whole else tmp_path / "a"
    theirs = getattr(transformers, name).from_pretrained(folder, dtype=torch.float32).eval()
    sampling = SamplingParams(vision=TokenSampling(temperature=0), guidance=guidance, negative="bad")
    requests = [
        image_request(GRAMMAR, caption, h, w, sampling=sampling) for caption, h, w in [("a dog", 4, 5), ("", 2, 7)]
    ]
    ours = [tokens.tolist() for tokens in continuations(model, VOCAB, requests)]
    assert [drawn_by(theirs, request) for request in requests] == ours
    assert len({token for tokens in ours for token in tokens}) > 8
    assert [tokens.tolist() for tokens in continuations(read_model(folder).eval(), VOCAB, requests)] == ours
