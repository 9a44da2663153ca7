"""Conversations: Emu3's chat template to the id, and where the answers stand."""

import numpy as np
import pytest
import tiktoken

from reelmill.errors import DataError
from reelmill.tokenize import text
from reelmill.tokenize.documents import Turn, Visual, chat_document, chat_prompt, parse
from reelmill.tokenize.vocabulary import Vocabulary

QWEN, BYTES = Vocabulary("qwen", 32_768), Vocabulary("bytes", 64)
CODES = np.array([[0, 7, 32_767], [1, 2, 3]])
CAT = Visual(np.array([[1, 2], [3, 4]]))


def as_emu3_tokenizes(string):
    """Ids as its released tokenizer gives them: the whole string at once, special strings in it are specials."""
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{n}|>" for n in range(205))]
    names += ["<|image token|>", "<|image start|>", "<|image end|>"]
    names += [f"<|visual token {n:06d}|>" for n in range(32_768)]
    plain = text.load("qwen")._bpe
    specials = {name: 151_643 + n for n, name in enumerate(names)}
    whole = tiktoken.Encoding(
        "emu3", pat_str=plain._pat_str, mergeable_ranks=plain._mergeable_ranks, special_tokens=specials
    )
    return whole.encode(string, allowed_special="all")


def test_the_prompt_is_emu3s_to_the_id():
    rows = "".join("".join(f"<|visual token {code:06d}|>" for code in row) + "<|extra_200|>" for row in CODES)
    image = f"<|image start|>2*3<|image token|>{rows}<|extra_201|><|image end|>"
    question = "Please describe the image, isn't it?  Été 2024"
    string = f"<|extra_203|>You are a helpful assistant. USER: {image}{question}. ASSISTANT:"
    assert chat_prompt(QWEN, [Visual(CODES), question]).tolist() == as_emu3_tokenizes(string)


@pytest.mark.parametrize("vocab", [QWEN, BYTES], ids=["qwen", "bytes"])
def test_a_conversation_begins_with_its_prompts_and_marks_its_answers(vocab):
    turns = [
        Turn([CAT, "What is it?"], ["  A cat, Été."]),
        Turn(["And ", CAT, "?"], ["Another."]),
        Turn(["Draw it"], [CAT, " here"]),
    ]
    chat = chat_document(vocab, turns)
    words = [vocab.tokenizer.decode([t for t in chat.tokens[a:b] if t < vocab.text_size]) for a, b in chat.answers]
    assert words == [" A cat, Été.", " Another.", "2*2 here"]
    for number, (start, _) in enumerate(chat.answers):
        prompt = chat_prompt(vocab, turns[number].question, turns[:number])
        assert np.array_equal(chat.tokens[:start], prompt)
    document = parse(vocab, chat.tokens)
    assert len(document.blocks) == 3
    assert chat.tokens[chat.answers[-1][1] :].tolist() == [vocab.eos]
    texts = "".join(document.texts)
    assert texts.startswith("You are a helpful assistant. USER: What is it?. ASSISTANT: A cat, Été. USER: And ?. ASS")


def test_a_system_sentence_of_its_own_and_special_strings_in_it():
    chat = chat_document(BYTES, [Turn(["<|image start|>"], ["<|extra_204|>"])], system="Be short.")
    assert parse(BYTES, chat.tokens).texts == ("Be short. USER: <|image start|>. ASSISTANT: <|extra_204|>",)


@pytest.mark.parametrize("answer", [[], [""], [" \n"]])
def test_an_empty_answer_is_refused_by_its_turn(answer):
    with pytest.raises(DataError, match="answer of turn 2 is empty"):
        chat_document(BYTES, [Turn(["a"], ["b"]), Turn(["c"], answer)])
    with pytest.raises(DataError, match="at least one"):
        chat_document(BYTES, [])
