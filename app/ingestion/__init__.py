"""Bytes -> searchable chunks.

The stages, in order: media_types (what is this file) -> parsers (pages, through cleaning) ->
headings and chunking (passages with exact spans) -> embedding -> indexing; pipeline runs them.
outcomes lists every way in which it can fail.
"""
