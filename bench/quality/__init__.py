"""How often retrieval finds what answers the question: `python -m bench.quality --help`."""
