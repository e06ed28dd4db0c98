"""Training methods: what of a pretrained model trains, beside masks what people use in their place.

`METHODS` is the one table of them: speech recognition by CTC, whole recognisers and SUPERB's tasks read it.
`s3router.tuners.attach` sets a method up on a model, `s3router.tuners.learnt` takes out what it has learnt.
"""

from s3router.tuners.methods import METHODS, Method, methods_for, used_rates

__all__ = ["METHODS", "Method", "methods_for", "used_rates"]
