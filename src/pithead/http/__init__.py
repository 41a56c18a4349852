"""Thin: authenticate, decode, call one operation, encode."""
