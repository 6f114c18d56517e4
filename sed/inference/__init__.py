"""A form of SED for inference, derived from the weights of the plain one.

`sed.load_model(source, optimize=True)` returns it. The plain model reads as the paper does and is
the one that learns; here the same numbers come from fewer and larger steps: `rewrites` is the
algebra, each of it tested by itself, and the other modules are the plain model's, rewritten.
"""
