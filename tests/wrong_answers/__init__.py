"""Plausible wrong answers to the exercises, one module per notebook: WRONG = {"02.1": [answer, …], …}.

An answer of several parts is a tuple. Each of them must fail its check with a hint of its own.
"""
