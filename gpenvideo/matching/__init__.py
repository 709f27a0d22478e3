"""Matching: a restored face takes on what its picture is made of: its tint, its sharpness and its grain."""
