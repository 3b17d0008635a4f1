"""What is kept of a frozen vision tower, for training and measuring alike."""
