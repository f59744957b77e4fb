"""The cases of `reported.py`, by what they are about."""
