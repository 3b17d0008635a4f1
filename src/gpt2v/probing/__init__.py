"""Linear probes: they predict the object of each cell from the patches before the projector."""
