"""The two warps of a face, out of a frame's planes into an aligned crop and back inside its mask; and small
pictures of whole frames, for those who look for faces and cuts."""
