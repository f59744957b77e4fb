"""What the players minimise: adversarial objectives, gradient penalties, weight constraints, and further terms.

An objective is one class with the methods `discriminator(round)` and `generator(round)`. Everything else that a player
minimises is a `Term`. Both are functions of a `Round` and depend on no network.
"""
