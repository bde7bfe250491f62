"""What the frozen edge map of stage one drives: video pose transfer."""
