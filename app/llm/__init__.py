"""Models behind one interface: base (protocols), registry, embedder, providers/."""
