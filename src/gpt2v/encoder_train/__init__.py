"""Contrastive CLIP pre-training of the encoder on captioned scenes."""
