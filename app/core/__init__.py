"""Plumbing that knows nothing of documents or chat."""
