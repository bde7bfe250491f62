"""Video files: reading and writing."""
