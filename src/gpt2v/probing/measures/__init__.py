"""What is measured with the hidden states of a probe, beside the rows of its decoders.

Each is one class, registered in `MEASURES` (`gpt2v.config.measures`) and called with a `Probed`. It
returns rows, which results.json has as `measures`, by the name of the measure.
"""
