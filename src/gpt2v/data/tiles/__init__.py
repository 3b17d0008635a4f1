"""Tiles, small pictures of one object each: drawn, from CIFAR or from folders; and augmentation."""
