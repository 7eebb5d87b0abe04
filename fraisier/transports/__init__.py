"""Ways to run commands and open connections where a target is."""
