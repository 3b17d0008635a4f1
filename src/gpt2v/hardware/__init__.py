"""The hardware that models run on: device, number formats, compilation, memory, products."""
