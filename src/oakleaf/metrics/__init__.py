"""Measures. Each says what it takes, and is a function of real and generated samples."""
