"""How good restored faces are: measures, sets of pictures with their truth, tables and sheets."""
