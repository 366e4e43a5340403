"""WRITE PATH 1: a document's row and bytes. uploads takes files in, library lists and deletes."""
