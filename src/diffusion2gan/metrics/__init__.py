"""Metrics of generated images, and of the speed of models."""
