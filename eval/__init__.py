"""Measuring: one command a figure."""
