"""Thin shells on trio: they move messages, and do what the pure core decides."""
