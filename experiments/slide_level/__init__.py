"""Train slide models on bulk expression, fold by fold: ``tcgn-mil finetune`` and ``slide-cv``."""
