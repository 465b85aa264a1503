"""Training text for the bundled tool caller: tools on offer, a question, the call that fits.

Nothing here runs a tool. Kinds of tools, with the many ways to name, describe and ask for them, are
text files in ``texts/``; an *offer* is a few of them, drawn anew for every example.
"""
