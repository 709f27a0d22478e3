"""Everything that touches PyAV: files and image sequences to frames, and frames to files."""
