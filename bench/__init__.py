"""Measurements of speed and quality; they import app/, nothing imports them."""
