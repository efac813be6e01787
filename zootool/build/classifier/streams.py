"""What a network's random numbers are for: the last word of the Philox streams (run, part, purpose)."""

HYPER_PARAMETERS, INITIAL, ORDER, DROPOUT, SUBSET, AUGMENTATION = range(1, 7)
