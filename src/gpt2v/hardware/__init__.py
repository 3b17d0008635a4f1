"""What a model runs on: device, number formats, compilation, memory, matrix products."""
