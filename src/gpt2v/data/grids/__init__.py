"""What a grid holds and what is asked about it: cells, samples, instructions, baselines."""
