"""What a model was trained on: recorded, taken as the default of measurements, and compared."""
