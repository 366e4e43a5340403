"""WRITE PATH 1: a document's row and bytes.

uploads takes files in, library finds documents, lifecycle cancels and retries, inspection shows
what became of one, deletion removes it.
"""
