"""Cached features of a frozen vision tower, for training and measuring."""
