"""Linear probes: what the patch embeddings before the projector say about each grid cell."""
