"""Ask a trained model about one grid: of a data set, of your own words, or of your own picture."""
