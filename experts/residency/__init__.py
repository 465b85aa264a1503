"""Residency: which expert is in which slot, what is loaded next, and who is served when.

Pure code over values: no I/O, no wall clock, no event loop. ``State`` keeps the books and refuses
what cannot be; a ``Policy`` looks at them and asks for actions; a driver carries them out. Two
drivers exist: the virtual clock (``clock.py``) and the fleet of real engines (``experts/vllm``).
"""
