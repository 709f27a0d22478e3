"""The tracks of a file: found once, edited by a person, given to any later run."""
