"""Documents: ids, layout and grammar (`docs/formats.md` shows them token by token).

The layout of a vocabulary, Emu3's or Emu3.5's, decides how documents are written, verified and constrained.
"""

from reelmill.tokenize.documents.chat import SYSTEM, Chat, Turn, answer_ids, chat_document, chat_prompt
from reelmill.tokenize.documents.grammar import DocumentError, Grammar, Phase, State, grammar_of
from reelmill.tokenize.documents.header import Header, latent_frames, read_header, seconds_of
from reelmill.tokenize.documents.parts import latent_frame_bounds, part_header, video_part
from reelmill.tokenize.documents.passages import Passage, passages
from reelmill.tokenize.documents.reading import (
    Block,
    Document,
    Span,
    TokenKind,
    loss_kinds,
    parse,
    parse_unchecked,
    token_kinds,
)
from reelmill.tokenize.documents.tasks import (
    TASKS,
    task_document,
    task_prompt,
    task_question,
    task_system,
    unconditional_prompt,
    without_words,
)
from reelmill.tokenize.documents.writing import (
    LAYOUT_VERSION,
    Part,
    Thought,
    Visual,
    caption_after,
    clip_document,
    doc_id,
    frame_ids,
    generation_prompt,
    grid_for_ratio,
    header_ids,
    image_document,
    interleaved_document,
    text_document,
    video_document,
)

__all__ = [
    "LAYOUT_VERSION",
    "SYSTEM",
    "TASKS",
    "Block",
    "Chat",
    "Document",
    "DocumentError",
    "Grammar",
    "Header",
    "Part",
    "Passage",
    "Phase",
    "Span",
    "State",
    "Thought",
    "TokenKind",
    "Turn",
    "Visual",
    "answer_ids",
    "caption_after",
    "chat_document",
    "chat_prompt",
    "clip_document",
    "doc_id",
    "frame_ids",
    "generation_prompt",
    "grammar_of",
    "grid_for_ratio",
    "header_ids",
    "image_document",
    "interleaved_document",
    "latent_frame_bounds",
    "latent_frames",
    "loss_kinds",
    "parse",
    "parse_unchecked",
    "part_header",
    "passages",
    "read_header",
    "seconds_of",
    "task_document",
    "task_prompt",
    "task_question",
    "task_system",
    "text_document",
    "token_kinds",
    "unconditional_prompt",
    "video_document",
    "video_part",
    "without_words",
]
