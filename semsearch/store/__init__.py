"""Vectors and passages to disk and back."""
