"""Footnote: chat with documents, with answers that can be checked."""
