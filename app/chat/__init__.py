"""READ PATH 2: question -> cited answer -> stream: assembly, citations, pipeline."""
