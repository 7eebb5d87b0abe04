"""Whole deployments in virtual time: processes that die at a chosen place, worlds that break, rehearsals of plans."""
