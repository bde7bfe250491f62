"""Measurements of speed, and of other code trained beside ours."""
