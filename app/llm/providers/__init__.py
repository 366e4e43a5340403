"""One file a vendor; `app/llm/registry.py` lists them."""
