"""A file restored in segments, each of which can be made anywhere and at any time, and joined."""
