"""The optimizers without their Keras: one file an optimizer, written once.

A class here holds the constructor, its checks, and the call of the update
rule. :mod:`tf_largebatch.keras` and :mod:`tf_largebatch.tf_keras` combine it
with their own base class; use those.
"""
