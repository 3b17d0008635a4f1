"""Where small pictures of single objects come from: drawn, CIFAR, folders; and how they vary."""
