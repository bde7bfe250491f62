"""What `eval/report.py` is made of: inputs, measurements, pictures, pages, comparison."""
