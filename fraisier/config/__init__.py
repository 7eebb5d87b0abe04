"""Configuration: parsed once into frozen, typed objects, every error with its place."""
