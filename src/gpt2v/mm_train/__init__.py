"""MM-Train: contrastive pre-training of the encoder, and GPT-2v training."""
