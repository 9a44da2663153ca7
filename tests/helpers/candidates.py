"""Folders of candidates without a model: random codes under the shipped small tokenizer."""

import datetime

import numpy as np

from reelmill.eval.preference import Candidates
from reelmill.eval.preference.candidates import digest, write_candidates
from reelmill.tokenize import documents, vision
from reelmill.tokenize.shards import Footer
from reelmill.tokenize.vocabulary import Vocabulary

VOCAB = Vocabulary("bytes", 4096)
GRID = (2, 3)


def write_folder(folder, prompts=("a cat", "two dogs"), count=3, checkpoints=("first",), change=lambda tokens: tokens):
    """`count` candidates of each prompt by each checkpoint, their tokens changed; returns what is there then."""
    fingerprint = vision.load("reelmill-tok-xs").fingerprint
    rows = []
    for step, checkpoint in enumerate(checkpoints, 1):
        for place, prompt in enumerate(prompts):
            for number in range(count):
                name = digest(prompt, checkpoint, str(number))
                codes = np.random.default_rng(int(name[:8], 16)).integers(0, 4096, GRID)
                tokens = change(documents.image_document(VOCAB, codes, prompt))
                rows.append(
                    {
                        "candidate_id": name,
                        "prompt_id": digest(prompt),
                        "prompt": prompt,
                        "place": place,
                        "number": number,
                        "tokens": tokens,
                        "n_prompt": len(documents.generation_prompt(VOCAB, prompt, *GRID)),
                        "n_tokens": len(tokens),
                        "grid_h": GRID[0],
                        "grid_w": GRID[1],
                        "checkpoint": f"/secret/{checkpoint}",
                        "step": step,
                        "weights": digest(checkpoint) * 2,
                        "temperature": 1.0,
                        "top_k": 0,
                        "top_p": 1.0,
                        "guidance": 1.0,
                        "negative": "",
                        "seed": 0,
                        "stream": number,
                        "created": datetime.datetime(2026, 1, step, tzinfo=datetime.UTC),
                        "decode": "plain",
                    }
                )
    write_candidates(folder, rows, Footer(fingerprint, VOCAB, fingerprint))
    return Candidates(folder)


def rating(voter, scores):
    """A line of votes from `{candidate_id: (appeal, alignment)}`."""
    return {
        "voter": voter,
        "scores": [{"candidate_id": name, "appeal": a, "alignment": b} for name, (a, b) in scores.items()],
    }
