"""Documents: the one owner of ids, layout and grammar (Emu3's layout; `docs/formats.md` shows it token by token)."""

from reelmill.tokenize.documents.chat import SYSTEM, Chat, Turn, chat_document, chat_prompt
from reelmill.tokenize.documents.grammar import DocumentError, Grammar, Phase, State, grammar_of
from reelmill.tokenize.documents.header import Header, latent_frames, read_header, seconds_of
from reelmill.tokenize.documents.parts import latent_frame_bounds, part_header, video_part
from reelmill.tokenize.documents.reading import Block, Document, Span, TokenKind, loss_kinds, parse, token_kinds, trust
from reelmill.tokenize.documents.writing import (
    LAYOUT_VERSION,
    Visual,
    caption_after,
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
    "Block",
    "Chat",
    "Document",
    "DocumentError",
    "Grammar",
    "Header",
    "Phase",
    "Span",
    "State",
    "TokenKind",
    "Turn",
    "Visual",
    "caption_after",
    "chat_document",
    "chat_prompt",
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
    "part_header",
    "read_header",
    "seconds_of",
    "text_document",
    "token_kinds",
    "trust",
    "video_document",
    "video_part",
]
