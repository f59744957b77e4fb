"""Functions and constants that several test files share. Fixtures are in `conftest.py`."""
