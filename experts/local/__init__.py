"""Hugging Face models answering in this process."""
