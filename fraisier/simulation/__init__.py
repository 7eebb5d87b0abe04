"""Whole deployments in virtual time, and processes that die at a chosen place."""
