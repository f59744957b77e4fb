"""What a configuration may hold: value types, validation against signatures, the list of classes that it may build, and the place of `conf/`.
Nothing here imports torch."""
