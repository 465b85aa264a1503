"""Routing judged on recorded outcomes: every policy under one bargain, and the verdict."""
