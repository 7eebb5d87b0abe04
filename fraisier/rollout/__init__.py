"""Plans and the one driver that carries them out."""
