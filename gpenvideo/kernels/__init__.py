"""The two warps of a face: out of a picture into an aligned crop, and back inside its mask."""
