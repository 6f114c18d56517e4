"""Which rejection is fastest at an accuracy that the user names: a search on Ray Tune.

The validation set is encoded once; every trial decodes growing parts of it under its policy.
"""
