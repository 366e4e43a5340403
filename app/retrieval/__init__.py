"""READ PATH 1: a question -> ranked chunks. In order: dense, fulltext, fusion; see pipeline."""
