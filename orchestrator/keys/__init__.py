"""Virtual keys: who may ask whom, how fast, and for how many dollars.

``key`` has the values, ``store`` keeps them, ``ring`` finds the key of a request, and ``accounts``
counts what keys use: requests, tokens, dollars.
"""
