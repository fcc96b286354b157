"""Queries with known answers to figures: how good is the ranking?"""
