"""How fast a gateway forwards: Conclave beside others, before one upstream that only pretends.

``upstream`` answers as an OpenAI-compatible server would, at once; ``load`` asks and times;
``gateways`` starts Conclave and its peers; ``rounds`` interleaves them.
"""
