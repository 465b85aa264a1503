"""Drivers: four ways to run the same strategy bodies.

``live`` makes the calls of one query at once and streams; ``wave`` advances many queries together,
one batch an expert and wave; ``replay`` answers calls from what was recorded; ``durable`` survives
the end of its process, and waits for people.
"""
