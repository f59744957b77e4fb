"""An example of a package that extends Oakleaf from outside: docs/extending.md explains it."""
