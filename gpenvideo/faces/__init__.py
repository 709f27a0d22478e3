"""Faces in pictures: finding them, aligning them, and the mask inside which they are replaced."""
