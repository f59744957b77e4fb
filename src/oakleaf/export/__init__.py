"""Generators without their training code: formats, model card, upload and download."""
