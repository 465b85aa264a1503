"""The wireless Internet of Experts: simulated radio channels, and small models that judge them.

Six classifiers, each for one property of a channel, offered as MCP tools that take handles to
arrays. The idea is of arXiv:2505.01834 (MCP-enabled Internet of Experts); simulator, features and
figures are our own.
"""
