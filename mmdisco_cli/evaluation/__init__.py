"""Measures of joint generation, from written files or from closed forms."""
